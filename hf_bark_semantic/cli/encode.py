"""`bark-semantic encode`: recordings, voice prompts and code files to semantic tokens."""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from ..packaged import example_recording
from .console import (
    FAILED,
    OK,
    UsageError,
    add_encoder_arguments,
    load_encoder,
    make_folder,
    positive,
    say,
    usage_errors,
    words_behind_encoder,
)


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "encode", help="recordings to semantic tokens",
        description="Read the semantic tokens of Bark from recordings, voice prompts and codes.",
        examples=[
            "bark-semantic encode --example",
            "bark-semantic encode recordings --json > tokens.jsonl",
            "bark-semantic encode speech.m4a --output tokens --top-k 5",
            'bark-semantic encode speech.wav --text "And so, my fellow Americans" --bark suno/bark-small',
        ],
    )  # fmt: skip
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="recordings, folders of them, .npz prompts, .npy codes"
    )
    parser.add_argument("--example", action="store_true", help="encode the recording that the package carries")
    output = parser.add_argument_group("what is given")
    output.add_argument("--output", type=Path, metavar="DIR", help="write one .npz per file into this folder")
    output.add_argument("--top-k", type=positive, metavar="K", help="also give the K most probable tokens")
    output.add_argument("--json", action="store_true", help="one JSON object per file and line on stdout")
    output.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, help="progress bar (default: on a terminal)"
    )
    words = parser.add_argument_group("where the words are known")
    words.add_argument("--text", metavar="TEXT", help="what is said in the one FILE; needs --bark")
    words.add_argument("--bark", metavar="ID", help="with --text, Bark that expects it: Hub id, folder or nano")
    add_encoder_arguments(parser)
    parser.add_argument("--batch-size", type=positive, metavar="N", help="computed at once (default: as fits)")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from . import records

    if not arguments.files and not arguments.example:
        arguments.files = words_behind_encoder(arguments)
    if not arguments.files and not arguments.example:
        raise UsageError("name recordings to encode, or try --example")
    paths = [*arguments.files, *([str(example_recording())] if arguments.example else [])]
    files, failures = records.input_files(paths)
    if not files and not failures:
        raise UsageError("there is no audio file in " + ", ".join(paths))
    with_text = arguments.text is not None
    if with_text != (arguments.bark is not None) or (with_text and len(files) + len(failures) != 1):
        raise UsageError(
            "--text and --bark go together, and with one FILE: what is said in it, and Bark's id or folder"
        )
    if arguments.output is not None:
        make_folder(arguments.output)
    targets = records.output_paths(files, arguments.output)
    encoder = load_encoder(arguments)
    vocab_size = encoder.model.config.vocab_size
    if arguments.top_k is not None and arguments.top_k > vocab_size:
        raise UsageError(f"--top-k {arguments.top_k} is more than the {vocab_size} tokens there are")
    num_failed = len(failures)
    for record in failures:
        records.print_record(record, as_json=arguments.json)
    options = {"top_k": arguments.top_k, "batch_size": arguments.batch_size}
    if with_text:
        options |= {"text": arguments.text, "bark": _load_bark(arguments.bark, encoder.device)}
        encoded: Iterable[dict] = (records.encode_file(file, encoder, **options) for file in files)
    else:
        encoded = records.encode_files(files, encoder, **options)
    disable = None if arguments.progress is None else not arguments.progress
    with tqdm(total=len(files), unit="file", file=sys.stderr, disable=disable) as progress:
        for record in encoded:
            target = targets.get(record["file"])
            if target is not None and "error" not in record:
                record = records.save_record(record, target)
            num_failed += "error" in record
            with tqdm.external_write_mode(file=sys.stdout):
                records.print_record(record, as_json=arguments.json)
            progress.update()
    accuracy = accuracy_line(encoder.model.config.name_or_path)
    if accuracy is not None:
        say(accuracy)
    return FAILED if num_failed else OK


def _load_bark(name: str, device) -> tuple:
    from ..bark.loading import load_bark

    with usage_errors():
        bark, processor = load_bark(name)
    return bark.to(device), processor


def accuracy_line(folder: str | os.PathLike) -> str | None:
    """The one line of the encoder's evaluation.json that says how often it is right."""
    try:
        with open(os.path.join(folder, "evaluation.json"), encoding="utf-8") as file:
            line = json.load(file).get("accuracy_line")
    except (OSError, ValueError, AttributeError):  # an encoder without one, or with another file of that name
        return None
    return line if isinstance(line, str) else None


__all__ = ["accuracy_line", "add_parser", "run"]
