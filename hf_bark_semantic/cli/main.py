"""`bark-semantic`: the library on the command line.

    encode     recordings, voice prompts and code files -> semantic tokens
    clone      recordings of a speaker -> a voice prompt for Bark (.npz)
    speak      a text, or a recording, and a voice -> speech
    voices     list the voice presets of a Bark
    demo       encode, clone and speak with the models of the package
    app        clone, speak and convert on a page in the browser
    encoders   list the encoders that have a name
    convert    an encoder of another format -> a folder for from_pretrained
    doctor     check the installation

Results go to stdout, everything else to stderr. Exit codes: 0 success, 1 some files failed or something is broken,
2 wrong usage, nothing to do or a model that cannot be loaded, 130 interrupted. `--debug` adds an error's traceback.

Commands import torch only when they compute, so help and errors in options or paths appear at once.
"""

import os
import sys
import traceback

import shtab

from ..environment import VERSION
from . import app, clone, convert, demo, doctor, encode, encoders, speak, voices
from .console import FAILED, FAILURES, INTERRUPTED, UNUSABLE, UsageError, message, say
from .parser import CommandParser, complete_paths


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = build_parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):  # a file name may contain characters that the terminal's encoding lacks
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return arguments.command(arguments)
    except KeyboardInterrupt:
        say("bark-semantic: interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if getattr(arguments, "debug", False):
            traceback.print_exc()
        if isinstance(error, (UsageError, *FAILURES)):
            say(f"bark-semantic: {message(error)}")
        else:
            say(f"bark-semantic: {type(error).__name__}: {error}. This is a bug; --debug shows where")
        return UNUSABLE if isinstance(error, UsageError) else FAILED


def build_parser() -> CommandParser:
    parser = CommandParser(
        prog="bark-semantic", description="Audio to the semantic tokens of Suno's Bark, and Bark in any voice.",
        examples=["bark-semantic demo", "bark-semantic speak --help"],
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"bark-semantic {VERSION}")
    shtab.add_argument_to(parser, "--print-completion", help="print a script for shell completion")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (encode, clone, speak):
        command.add_parser(commands)
    demo.add_parser(commands, type_command=main)
    for command in (voices, encoders, app, convert, doctor):
        command.add_parser(commands)
    complete_paths(parser)
    return parser


__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    sys.exit(main())
