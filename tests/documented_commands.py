"""The commands that the documentation has behind a marker, such as <!-- ci: encoder route -->, for a tiny corpus.

A config that lies in the folder wins over the recipe of its name, so the commands stay as they are written.
"""

import re
import shlex
from pathlib import Path

import yaml

from hf_bark_semantic.trainers.settings import set_value

ROOT = Path(__file__).parents[1]
DIGITS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "zero"] * 2
TEXTS = [" ".join(DIGITS[start : start + 5]) + "." for start in range(10)]
TEXTS += [" ".join(DIGITS[start : start + 9 : 2]) + "." for start in range(5)]
TINY = {
    "nano_corpus": ["training.steps=2", "batches.num_tokens=64"],
    "finetune_nano": ["training.steps=1", "batches.num_positions=1500", "validation.every=1", "samples=[]"],
}


def write_tiny_recipe(folder: Path, name: str, text: str) -> None:
    """Write the recipe of a name, whose text is given, with tiny sizes."""
    config = yaml.safe_load(text)
    for assignment in TINY[name]:
        set_value(config, assignment)
    (folder / name).write_text(yaml.safe_dump(config))


def documented_commands(document: str, marker: str) -> list[list[str]]:
    """The lines of the block of bash behind a marker of a document, each as its words."""
    text = (ROOT / document).read_text(encoding="utf-8")
    (block,) = re.findall(rf"^<!-- ci: {marker} -->\n```bash\n(.*?)^```$", text, re.S | re.M)
    return [shlex.split(line) for line in block.replace("\\\n", " ").splitlines()]


def module_and_options(command: list[str]) -> tuple[str, list[str]]:
    """The module that a command of the package runs, and its options."""
    if command[0] == "bark-semantic":
        return "hf_bark_semantic.cli.main", command[1:]
    assert command[:2] == ["python", "-m"], shlex.join(command)
    return command[2], command[3:]
