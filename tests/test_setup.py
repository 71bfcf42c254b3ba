"""The installed package works in an empty folder without this repository."""

import json
import os
import subprocess
import sys
from pathlib import Path

import hf_bark_semantic

ROOT = Path(__file__).parents[1]

USE = """if True:
    import json, sys
    import hf_bark_semantic
    from hf_bark_semantic import packaged
    places = [packaged.recipe("builtin"), packaged.recipe("accelerate/fsdp"), packaged.card_template("corpus")]
    places += [packaged.default_encoder(), packaged.nano_bark(), packaged.example_recording()]
    print(json.dumps([hf_bark_semantic.__version__, dir(hf_bark_semantic), *map(str, places)]))
"""


def test_the_installed_package_brings_recipes_cards_checkpoints_and_its_types(tmp_path):
    build = [sys.executable, "setup.py", "-q", "build", "--build-base", tmp_path / "build", "--build-lib", tmp_path]
    built = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    (tmp_path / "elsewhere").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", USE]
    options = {"cwd": tmp_path / "elsewhere", "env": environment, "capture_output": True, "text": True, "timeout": 300}
    used = subprocess.run(command, **options)
    assert used.returncode == 0, used.stderr
    version, names, *places = json.loads(used.stdout)
    assert version == hf_bark_semantic.__version__ and names == hf_bark_semantic.__all__
    assert all(place.startswith(str(tmp_path / "hf_bark_semantic")) for place in places)
    assert (tmp_path / "hf_bark_semantic" / "py.typed").is_file()
