"""The documented commands after a marker, such as <!-- ci: encoder route -->, for a tiny corpus.

A config in the folder has priority over the recipe of the same name, so the commands need no changes.
"""

import argparse
import importlib
import re
import shlex
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import yaml

from hf_bark_semantic.trainers.settings import set_value

ROOT = Path(__file__).parents[1]
DIGITS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "zero"] * 2
TEXTS = [" ".join(DIGITS[start : start + 5]) + "." for start in range(10)]
TEXTS += [" ".join(DIGITS[start : start + 9 : 2]) + "." for start in range(5)]
DOCUMENTS = ["README.md", "training/README.md", "training/RESULTS.md"]
DOCUMENTS += [
    path.relative_to(ROOT).as_posix()
    for place in ("docs/*.md", "hf_bark_semantic/cli/*.py", "training/benchmarks/*.py")
    for path in sorted(ROOT.glob(place))
]
STAGES = sorted({path.stem for path in ROOT.glob("training/*.py")} | {"benchmark_encoders"})
COMMAND = re.compile(
    rf"(bark-semantic \w+|\b(?:{'|'.join(STAGES)})\b(?:\.py)?(?: (?:prepare|train|merge|push)\b)?)([^`|\n]*)"
)
REPOSITORY = re.compile(r"\b(suno/bark|facebook/|microsoft/|community:[a-z])")
TINY = {
    "nano_corpus": ["training.steps=2", "batches.num_tokens=64"],
    "finetune_nano": ["training.steps=1", "batches.num_positions=1500", "validation.every=1", "samples=[]"],
    "add_language": [  # of the shape of nano's encoder
        "training.steps=2",
        "batches.num_tokens=64",
        "batches.codec=nano",
        "model.backbone_layers=[1, 2]",
        "model.hidden_size=256",
        "model.num_hidden_layers=1",
        "model.num_attention_heads=4",
        "model.intermediate_size=1024",
        "model.codec_hidden_size=0",
        "model.codec_output=features",
        "model.vocab_size=500",
        "model.window_s=10.0",
    ],
}


def write_tiny_recipe(folder: Path, name: str, text: str) -> None:
    """Write the recipe of a name, whose text is given, with tiny sizes."""
    config = yaml.safe_load(text)
    for assignment in TINY[name]:
        set_value(config, assignment)
    (folder / name).write_text(yaml.safe_dump(config))


def documented_commands(document: str, marker: str) -> list[list[str]]:
    """The lines of the block of bash behind a marker of a document, each as its words."""
    script = documented_script(document, marker)
    return [shlex.split(line) for line in script.replace("\\\n", " ").splitlines()]


def documented_script(document: str, marker: str) -> str:
    """The block of bash behind a marker of a document."""
    (block,) = [block for block in blocks(document) if block.marker == f"ci: {marker}"]
    return block.code


class Block(NamedTuple):
    """A block of a document.

    Args:
        marker (`str`): the comment before it: `ci: NAME` if a test or the gate runs it by this name, `needs: WHAT` if
            it cannot run in the tests, `prints` for the output of the block before it; empty without a comment.
        language (`str`): "python", "bash" or "text".
        code (`str`): its lines.
    """

    marker: str
    language: str
    code: str


def blocks(document: str) -> list[Block]:
    """All blocks of a document, in order."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [
        Block(*found) for found in re.findall(r"(?:^<!-- ([^\n]*) -->\n)?^```(\w+)\n(.*?)^```$", text, re.S | re.M)
    ]


def commands_on_repositories(text: str) -> dict[str, set[str]]:
    """Programs of the package, as `finetune_bark prepare`, that a text tells to type with a Hub id; their options."""
    found = {}
    text = re.sub(r"(?<!`)`[^`]+`(?!`)", lambda code: code[0].replace("\n", " "), re.sub(r"\\+\n", " ", text))
    for program, rest in COMMAND.findall(text):
        if REPOSITORY.search(rest):
            found.setdefault(program.replace(".py", ""), set()).update(re.findall(r"--[a-z-]+", rest))
    return found


def module_and_options(command: list[str]) -> tuple[str, list[str]]:
    """The module that a command of the package runs, and its options."""
    if command[0] == "bark-semantic":
        return "hf_bark_semantic.cli.main", command[1:]
    scripts = [place for place, word in enumerate(command) if word.startswith("training/") and word.endswith(".py")]
    if scripts:
        return Path(command[scripts[0]]).stem, command[scripts[0] + 1 :]
    assert command[:2] == ["python", "-m"] or command[0] in ("accelerate", "torchrun"), shlex.join(command)
    place = command.index("-m") + 1
    return command[place], command[place + 1 :]


class _Parsed(Exception):
    """Where a command would begin to work."""


def parsed(command: list[str]) -> argparse.Namespace:
    """The options of a command of the package as it reads them; SystemExit where it refuses them. Nothing is run."""
    module, options = module_and_options(command)
    parse_args, found = argparse.ArgumentParser.parse_args, []

    def parse_and_stop(parser, arguments=None, namespace=None):
        found.append(parse_args(parser, arguments, namespace))
        raise _Parsed

    with mock.patch.object(argparse.ArgumentParser, "parse_args", parse_and_stop):
        try:
            importlib.import_module(module).main(options)
        except _Parsed:
            return found[0]
    raise AssertionError(f"{module} reads no options")
