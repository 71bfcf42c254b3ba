"""Helpers of the commands: exit codes, errors as one sentence, options, and loading of models.

Importing this module does not import torch, transformers or numpy.
"""

import argparse
import os
import re
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from safetensors import SafetensorError

from ..packaged import BUILTIN, NANO, NANOS, named_encoder
from .parser import did_you_mean

OK, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
_NAME = re.compile(r"\w[\w.-]*([/:]\w[\w.-]*)?")  # a Hub id, or a name of this package
NAMES = (BUILTIN, NANOS, NANO, "suno/bark", "suno/bark-small")  # names of models, for suggestions
WORDS = ("transcript", "It makes the tokens text-informed: likely for both encoder and Bark.")  # a group of options
WHISPER = "whisper-tiny.en"  # from evaluation.judges
DTYPES = ("auto", "float32", "bfloat16", "float16")

# errors that a file or a model can cause
FAILURES: tuple[type[Exception], ...] = (ValueError, TypeError, OSError, RuntimeError, ImportError, EOFError)
FAILURES += (MemoryError, SafetensorError, zipfile.BadZipFile, zlib.error)
_UNUSABLE: tuple[type[Exception], ...] = (
    *FAILURES,
    KeyError,
    AssertionError,
)  # torch without CUDA raises an AssertionError


# errors that the user of a script can correct; others are bugs, whose traceback is needed
SCRIPT_FAILURES = (ValueError, OSError, ImportError)

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class UsageError(Exception):
    """The command cannot run."""


@contextmanager
def usage_errors(what: str = "", *places: str | None) -> Iterator[None]:
    """A context manager that turns errors into a [`UsageError`]; it suggests corrections for the names of `places`."""
    try:
        yield
    except _UNUSABLE as error:
        unknown = [place for place in places if place and place not in NAMES and not os.path.isdir(place)]
        meant = "".join(did_you_mean(place, NAMES, similarity=0.85) for place in unknown)
        reason = message(error).rstrip(".") + meant if meant else message(error)
        raise UsageError(what + reason) from error


def errors_as_one_sentence(main: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """A decorator for a script's `main`: wrong files, wrong values and Ctrl-C give one sentence, no traceback."""

    @wraps(main)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return main(*args, **kwargs)
        except SCRIPT_FAILURES as error:
            raise SystemExit(message(error)) from error
        except KeyboardInterrupt:
            say("Interrupted. Start the same command again to continue.")
            raise SystemExit(INTERRUPTED) from None

    return wrapped


def message(error: BaseException) -> str:
    """The message of an error; for system errors, only the reason and the file."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.strerror}: {os.fspath(error.filename)!r}"
    return str(error).strip() or type(error).__name__


def say(text: str) -> None:
    """Print to stderr; stdout is for results."""
    print(text, file=sys.stderr, flush=True)


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {str(folder)!r}: {error.strerror}") from error


def prepare_output(path: Path, endings: Iterable[str], *, overwrite: bool, inputs: Iterable[str | Path]) -> None:
    """Check that the file of `--output` can be written before anything is computed, and make its folder.

    Args:
        path (`Path`): the file.
        endings (`Iterable[str]`): its possible endings.
        overwrite (`bool`): whether it may replace another file, but never one of `inputs`.

    Raises:
        UsageError: it cannot or must not be written.
    """
    if path.is_dir():
        raise UsageError(f"--output {str(path)!r} is a folder; name a file in it")
    if path.suffix.lower() not in endings:
        raise UsageError(f"--output {str(path)!r} must end in {' or '.join(endings)}")
    if any(os.path.realpath(path) == os.path.realpath(file) for file in inputs):
        raise UsageError(f"--output {str(path)!r} is also an input; name another file")
    if path.exists() and not overwrite:
        raise UsageError(f"--output {str(path)!r} exists; name another file, or replace it with --overwrite")
    make_folder(path.parent)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UsageError(f"cannot write into the folder {str(path.parent)!r}: {error.strerror}") from error


def check_places(*places: str | None) -> None:
    """Refuse addresses and missing folders, which the Hub would report as unknown ids.

    Raises:
        UsageError: a place is neither a folder nor a possible name on the Hub or in this package.
    """
    for place in places:
        if place is not None and "://" in place:
            raise UsageError(f"{place!r} is an address; name a Hub id, such as suno/bark-small, or a folder")
        if place is not None and not os.path.isdir(place) and not _NAME.fullmatch(place):
            raise UsageError(f"there is no folder {place!r}; check the spelling and the folder you are in")


# ---- options


def at_least(least: int, kind: Callable[[str], Any] = int) -> Callable[[str], Any]:
    """A type for an option that must be an `int`, or a `float`, of at least this size."""

    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a {'whole ' if kind is int else ''}number") from None
        if not value >= least:
            raise argparse.ArgumentTypeError(f"{text} is not {least} or more")
        return value

    return read


def local_path(text: str) -> Path:
    """A type for an option that must be a path on this machine."""
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is an address; name a file or folder of this machine")
    return Path(text)


def add_encoder_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("encoder and device")
    group.add_argument(
        "--encoder", nargs="+", default=[BUILTIN], metavar="ID",
        help="encoder: Hub id, folder or a name of `bark-semantic encoders`; several: an ensemble (default: builtin)",
    )  # fmt: skip
    group.add_argument(
        "--encoder-weights", nargs="+", type=float, metavar="W", help="one for each of several (default: equal)"
    )
    group.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, mps, ... (default: the fastest)")
    group.add_argument(
        "--dtype", choices=DTYPES, default="auto", help="precision of the computation (default: auto, as saved)"
    )


def add_transcript_arguments(group: Any) -> None:
    """`--transcribe` and `--asr`, for [`load_transcriber`]."""
    group.add_argument(
        "--transcribe", action="store_true", help="transcribe the recording with a speech recognizer; needs --bark"
    )
    group.add_argument(
        "--asr", default=WHISPER, metavar="ID",
        help=f"speech recognizer: Hub id or folder (default: {WHISPER}, English, of the extra asr)",
    )  # fmt: skip


def load_transcriber(arguments: argparse.Namespace) -> Callable[[Any], str] | None:
    """A function that transcribes a waveform, `(num_samples,)` at 16 kHz, if requested; Whisper tiny.en is on the CPU.

    Raises:
        UsageError: it cannot be loaded; if packages are missing, the message names the extra.
    """
    if not arguments.transcribe:
        return None
    check_places(arguments.asr)
    device = "cpu" if arguments.asr == WHISPER else arguments.device or "cpu"

    from ..conversion.hub import hub_errors
    from ..evaluation import judges

    with usage_errors(f"cannot load the speech recognizer {arguments.asr!r}: "), hub_errors():
        return judges.load_transcriber(arguments.asr, device=device)


def words_behind_encoder(arguments: argparse.Namespace) -> list[str]:
    """Remove and return the values of `--encoder` after the first: the files of `encode --encoder ID FILE...`."""
    words = arguments.encoder[1:]
    arguments.encoder = arguments.encoder[:1]
    return words


def load_encoder(arguments: argparse.Namespace) -> Any:
    """The pipeline of the chosen encoder."""
    from ..pipelines.encoding import TASK

    return load_pipeline(arguments, TASK, f"cannot load the encoder {' '.join(arguments.encoder)!r}")


def load_pipeline(arguments: argparse.Namespace, task: str, failure: str, **options: Any) -> Any:
    """The pipeline of a task with the chosen encoder, device and dtype.

    Raises:
        UsageError: it cannot be loaded; the message is `failure` and the reason.
    """
    bark = getattr(arguments, "bark", None)
    check_places(*arguments.encoder, bark, options.get("adapter"))

    from transformers import pipeline
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    if arguments.device is not None:
        options["device"] = arguments.device
    from ..conversion.hub import hub_errors

    with usage_errors(f"{failure}: ", *arguments.encoder, bark), hub_errors():
        model = named_encoder(arguments.encoder, bark)
        return pipeline(task, model=model, weights=arguments.encoder_weights, dtype=arguments.dtype, **options)


__all__ = [
    "FAILED",
    "FAILURES",
    "INTERRUPTED",
    "OK",
    "UNUSABLE",
    "WORDS",
    "UsageError",
    "add_encoder_arguments",
    "add_transcript_arguments",
    "at_least",
    "check_places",
    "errors_as_one_sentence",
    "load_encoder",
    "load_pipeline",
    "load_transcriber",
    "local_path",
    "make_folder",
    "message",
    "prepare_output",
    "say",
    "usage_errors",
    "words_behind_encoder",
]
