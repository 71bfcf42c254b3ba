"""The parser of the `bark-semantic` commands.

CommandParser      an `ArgumentParser` that suggests corrections and shows examples in its help
complete_paths     shell completion for values that are files and folders
"""

import argparse
import difflib
import itertools
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import shtab

PATHS = ("DIR", "FILE", "ID", "NAME=ID", "PATH", "VOICE", "VOICE.npz")  # metavars; an ID may be a folder


class CommandParser(argparse.ArgumentParser):
    """The parser of a program or of one of its commands.

    Args:
        examples (sequence of `str`): commands to show at the end of its help.
    """

    def __init__(self, *, examples: Sequence[str] = (), **kwargs: Any):
        epilog = "\n  ".join(["examples:", *examples]) if examples else None
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(epilog=epilog, formatter_class=formatter, **kwargs)
        self.examples = tuple(examples)
        self.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error comes from"
        )

    def parse_known_args(self, args=None, namespace=None):
        words = sys.argv[1:] if args is None else list(args)
        if self._subparsers is None:  # arguments after the name of a command belong to the command
            for word in itertools.takewhile(lambda word: word != "--", words):
                self._check_option(word)
        return super().parse_known_args(words, namespace)

    def _check_option(self, word: str) -> None:
        """Refuse an unknown option before argparse reports that the intended one is missing."""
        name = word.partition("=")[0]
        if not word.startswith("--") or " " in word or any(o.startswith(name) for o in self._option_string_actions):
            return
        self.error(f"there is no option {name}{did_you_mean(name, self._option_string_actions)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            nearest = did_you_mean(str(value), map(str, action.choices or ()))
            raise argparse.ArgumentError(action, f"{error.message}{nearest}") from None


def did_you_mean(typed: str, known: Iterable[str], *, similarity: float = 0.6) -> str:
    """`"; did you mean speak?"`, or `""` without a similar name; `similarity` is between 0 and 1."""
    nearest = difflib.get_close_matches(typed, list(known), 1, similarity)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def complete_paths(parser: argparse.ArgumentParser) -> None:
    """Mark the options of a parser and its commands that shtab's scripts complete with files and folders."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                complete_paths(command)
        elif action.metavar in PATHS:
            action.complete = shtab.FILE  # type: ignore[attr-defined]


__all__ = ["CommandParser", "complete_paths", "did_you_mean"]
