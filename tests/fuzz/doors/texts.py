"""Doors for texts to speak, and for the command line."""

import contextlib
import io
from functools import cache
from pathlib import Path
from random import Random

from fuzz.doors.door import Door, digest
from hf_bark_semantic.bark.configs import bark_generation_configs
from hf_bark_semantic.bark.request import SynthesisRequest
from hf_bark_semantic.cli.main import build_parser
from hf_bark_semantic.voices.splitting import piece_fits, split_text
from tiny import tiny_bark, tiny_bark_processor

MARKS = (
    "♪",
    "[laughs]",
    "MAN:",
    "[WOMAN]",
    "...",
    "。",
    "\n\n",
    "\u200d",
    "\u202e",
    "\u0301",
    "\0",
    "\ud800",
    "Dr. ",
    "14",
)
ONE_CHARACTER = 0.05  # share of texts that repeat one character


def make_text(random: Random, folder: Path) -> str:
    """A text from a few blocks of Unicode, including unpaired surrogates, with Bark's special marks."""
    if random.random() < ONE_CHARACTER:
        [length] = random.choices((1, 300, 20_000), (2, 7, 1))
        return random.choice(("a", "犬", "♪", "[", "\u0301", "\ud800", " ")) * length
    blocks = [random.randrange(0, 0x110000, 256) for _ in range(random.randint(1, 3))] + [0]
    letters = [chr(random.choice(blocks) + random.randrange(256)) for _ in range(random.randint(1, 120))]
    for _ in range(random.choice((0, 1, 4))):
        letters.insert(random.randrange(len(letters) + 1), random.choice(MARKS))
    return "".join(letters)


@cache
def rule():
    bark, tokenizer = tiny_bark(), tiny_bark_processor().tokenizer
    return piece_fits(tokenizer, bark_generation_configs(bark), bark.semantic.config.block_size)


def read_text(text: str) -> str:
    pieces = split_text(text, rule())
    return digest([SynthesisRequest(text=piece).text for piece in pieces])


# ---- the command line


@cache
def words() -> tuple[list[str], list[str]]:
    """The commands, and the options of all commands."""
    [commands] = [action.choices for action in build_parser()._actions if action.choices and action.nargs == "A..."]
    options = {option for parser in commands.values() for option in parser._option_string_actions}
    return sorted(commands), sorted(options)


def make_arguments(random: Random, folder: Path) -> list[str]:
    """A command with options of any command and invalid values."""
    commands, options = words()
    values = (
        "",
        "-",
        "--",
        "-1",
        "0",
        "1e999",
        "nan",
        "9" * 400,
        "\0",
        "\ud800",
        "ä" * 500,
        "a=b",
        "a=",
        "../x",
        "x.wav",
    )
    arguments = [random.choice(commands)] if random.random() < 0.95 else []
    for _ in range(random.randint(0, 5)):
        option = random.choice(options)
        option = random.choice((option, option, option[:-1], f"{option}={random.choice(values)}"))
        arguments += [option] * (random.random() < 0.7) + [random.choice(values)] * random.choice((0, 1, 1, 2))
    return arguments


class Refused(Exception):
    """argparse's exit with the code of wrong usage, after a message."""


def read_arguments(arguments: list[str]) -> str:
    """The parsed arguments of a command."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return digest(vars(build_parser().parse_args(arguments)))
    except SystemExit as error:
        if error.code == 0 and out.getvalue():
            return digest(out.getvalue())
        if error.code == 2 and "error:" in err.getvalue():
            raise Refused from error
        raise


HERE = ("/fuzz/doors/",)  # argparse exits; the door recognizes an exit with a message
DOORS = [
    Door("text", make_text, read_text, (ValueError,), 60),
    Door("command line", make_arguments, read_arguments, (Refused,), 80, HERE),
]
