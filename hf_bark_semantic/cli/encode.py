"""`bark-semantic encode`: encode recordings, voice prompts and code files to semantic tokens."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..packaged import example_recording
from .console import (
    FAILED,
    OK,
    WORDS,
    UsageError,
    add_encoder_arguments,
    add_transcript_arguments,
    at_least,
    load_encoder,
    load_transcriber,
    local_path,
    make_folder,
    say,
    usage_errors,
    words_behind_encoder,
)

if TYPE_CHECKING:
    from .progress import EncodingProgress


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "encode", help="turn recordings into semantic tokens",
        description="Compute Bark's semantic tokens of recordings, voice prompts and codes.",
        examples=[
            "bark-semantic encode --example",
            "bark-semantic encode recordings --json > tokens.jsonl",
            "bark-semantic encode speech.m4a --output tokens --top-k 5",
            'bark-semantic encode speech.wav --text "And so, my fellow Americans" --bark suno/bark-small',
            "bark-semantic encode sentences --transcribe --bark suno/bark-small --json",
        ],
    )  # fmt: skip
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="recordings, folders of them, .npz prompts, .npy codes"
    )
    parser.add_argument("--example", action="store_true", help="encode the example recording of the package")
    output = parser.add_argument_group("output")
    output.add_argument("--output", type=local_path, metavar="DIR", help="write one .npz per file into this folder")
    output.add_argument("--top-k", type=at_least(1), metavar="K", help="also give the K most probable tokens")
    output.add_argument("--json", action="store_true", help="one JSON object per file and line on stdout")
    output.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, help="progress bar (default: on a terminal)"
    )
    words = parser.add_argument_group(*WORDS)
    words.add_argument("--text", metavar="TEXT", help="the words of the one FILE; needs --bark")
    add_transcript_arguments(words)
    words.add_argument("--bark", metavar="ID", help="Bark for text-informed tokens: Hub id, folder or nano")
    add_encoder_arguments(parser)
    parser.add_argument("--batch-size", type=at_least(1), metavar="N", help="computed at once (default: as fits)")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    from . import records
    from .progress import EncodingProgress

    if not arguments.files and not arguments.example:
        arguments.files = words_behind_encoder(arguments)
    if not arguments.files and not arguments.example:
        raise UsageError("name recordings to encode, or try --example")
    paths = [*arguments.files, *([str(example_recording())] if arguments.example else [])]
    inputs = records.input_files(paths)
    if not inputs:
        raise UsageError("there is no audio file in " + ", ".join(paths))
    _check_words(arguments, len(inputs))
    if arguments.output is not None:
        make_folder(arguments.output)
    files = [Path(file) for file, problem in inputs.items() if problem is None]
    if not files:  # no encoder is needed
        return _give(inputs, iter(()), {}, EncodingProgress(len(inputs), arguments.progress), as_json=arguments.json)
    targets = records.output_paths(files, arguments.output)
    transcribe = load_transcriber(arguments)
    encoder = load_encoder(arguments)
    progress = EncodingProgress(len(inputs), arguments.progress)
    encoded = _encoded(files, encoder, transcribe, progress, arguments)
    code = _give(inputs, encoded, targets, progress, as_json=arguments.json)
    accuracy = accuracy_line(encoder.model.config.name_or_path)
    if accuracy is not None:
        say(accuracy)
    return code


def _encoded(
    files: list[Path],
    encoder: Any,
    transcribe: Callable | None,
    progress: "EncodingProgress",
    arguments: argparse.Namespace,
) -> Iterator[dict[str, Any]]:
    """A record of each file, in order.

    Raises:
        UsageError: options that do not fit the encoder, before anything is encoded.
    """
    from . import records

    vocab_size = encoder.model.config.vocab_size
    if arguments.top_k is not None and arguments.top_k > vocab_size:
        raise UsageError(f"--top-k {arguments.top_k} is more than the vocabulary of {vocab_size} tokens")
    options = {"top_k": arguments.top_k, "batch_size": arguments.batch_size}
    if arguments.bark is None:
        return records.encode_files(files, encoder, progress, **options)
    options |= {"bark": _load_bark(arguments.bark, encoder.device)}
    words = transcribe if arguments.text is None else arguments.text
    assert words is not None  # checked by `_check_words`
    return (records.encode_spoken(file, encoder, words, **options) for file in files)


def _check_words(arguments: argparse.Namespace, num_files: int) -> None:
    """Refuse a text without a Bark, a Bark without a text, and one text for several files."""
    if arguments.text is not None and arguments.transcribe:
        raise UsageError("use either --text or --transcribe")
    with_words = arguments.text is not None or arguments.transcribe
    if with_words != (arguments.bark is not None) or (arguments.text is not None and num_files != 1):
        raise UsageError(
            "--text needs --bark and a single FILE, and --bark needs a text; for several files, use "
            "--transcribe and --bark"
        )


def _give(
    inputs: dict[str | Path, str | None],
    encoded: Iterator[dict[str, Any]],
    targets: dict[str, Path],
    progress: "EncodingProgress",
    *,
    as_json: bool,
) -> int:
    """Print a record for each input in order, and save it if there is a target; return the exit code."""
    from . import records

    num_failed = num_done = 0
    with progress.files as bar:
        try:
            for file, problem in inputs.items():
                record = next(encoded) if problem is None else records.failure(file, problem)
                target = targets.get(record["file"])
                if target is not None and "error" not in record:
                    record = records.save_record(record, target)
                num_failed += "error" in record
                num_done += 1
                with bar.external_write_mode(file=sys.stdout):
                    records.print_record(record, as_json=as_json)
                bar.update()
        except KeyboardInterrupt:
            kept = f", their tokens are in {next(iter(targets.values())).parent}" if targets else ""
            say(f"bark-semantic: {num_done} of {len(inputs)} files were finished{kept}")
            raise
    return FAILED if num_failed else OK


def _load_bark(name: str, device) -> tuple:
    from ..bark.loading import load_bark

    with usage_errors("", name):
        bark, processor = load_bark(name)
    return bark.to(device), processor


def accuracy_line(folder: str | os.PathLike) -> str | None:
    """The sentence with the encoder's accuracy in its evaluation.json."""
    try:
        with open(os.path.join(folder, "evaluation.json"), encoding="utf-8") as file:
            line = json.load(file).get("accuracy_line")
    except (OSError, ValueError, AttributeError):  # no such file, or one with other contents
        return None
    return line if isinstance(line, str) else None


__all__ = ["accuracy_line", "add_parser", "run"]
