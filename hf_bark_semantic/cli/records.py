"""Encode many files: one record, a dict with arrays or with an error, for each."""

import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..audio import UNREADABLE_EXTENSIONS, AudioError, list_audio_files, load_audio, unread_files
from ..files import atomic_write
from .console import FAILURES, message, say
from .progress import EncodingProgress

CODE_EXTENSIONS = (".npy", ".npz")
MAX_GROUP_S = 600  # of audio in a group: 38 MB
GROUP_SIZE = 32  # enough recordings to sort by length, few enough to lose little at Ctrl-C
MAX_NAME_BYTES = 200  # file systems allow 255; names of unfinished files are longer
SHOWN_TOKENS = 10
SHOWN_FILES = 20  # names shown of files that are not audio


def input_files(paths: list[str]) -> dict[str | Path, str | None]:
    """All files of the given files and folders, in order and without duplicates, with an error for missing ones.

    Missing files keep their names as typed.
    """
    files: dict[str | Path, str | None] = {}
    for path in paths:
        if os.path.isdir(path):
            files.update(dict.fromkeys(_audio_below(path)))
        elif os.path.exists(path):
            files[Path(path)] = None
        else:
            way_out = "Download it first." if "://" in path else "Check the spelling and the folder you are in."
            files[path] = f"No such file or folder. {way_out}"
    return files


def _audio_below(folder: str) -> list[Path]:
    """The recordings in a folder, including audio of unsupported formats; the names of other files are printed."""
    others = unread_files(folder)
    unreadable = [file for file in others if file.suffix.lower() in UNREADABLE_EXTENSIONS]
    if skipped := [str(file.relative_to(folder)) for file in others if file not in unreadable]:
        more = f", and {len(skipped) - SHOWN_FILES:,} more" if len(skipped) > SHOWN_FILES else ""
        count = "1 file is" if len(skipped) == 1 else f"{len(skipped):,} files are"
        say(f"bark-semantic: in {folder}, {count} not read: {', '.join(skipped[:SHOWN_FILES])}{more}")
    try:
        return sorted([*list_audio_files(folder), *unreadable])
    except AudioError as error:
        if not unreadable:
            say(f"bark-semantic: {error}")
        return unreadable


def encode_files(
    files: list[Path], encoder, progress: EncodingProgress, *, top_k: int | None, batch_size: int | None
) -> Iterator[dict[str, Any]]:
    """Yield one record per file, in order. While a group is computed, the next one is read; both are in memory."""
    params = {name: value for name, value in (("batch_size", batch_size), ("top_k", top_k)) if value is not None}
    groups = _groups(files, encoder)
    reader = ThreadPoolExecutor(1, "reader")
    try:
        reading = reader.submit(next, groups, None)
        while (read := reading.result()) is not None:
            reading = reader.submit(next, groups, None)
            group, seconds = read
            progress.files.set_postfix_str(group[0][0].name)
            with progress.encoding(seconds) as on_tokens:
                records = _encode_group(group, encoder, on_tokens=on_tokens, **params)
            yield from records
    finally:
        reader.shutdown(wait=False, cancel_futures=True)


def _groups(files: list[Path], encoder) -> Iterator[tuple[list[tuple[Path, Any]], float]]:
    """Groups of files, each with the inputs of the model or an error, and the seconds of audio in the group."""
    from ..configuration_bark_semantic import SAMPLING_RATE  # imports torch, only after paths are checked

    group, seconds = [], 0.0
    for number, file in enumerate(files, 1):
        try:
            inputs = encoder.preprocess(_source(file))
            seconds += 0 if inputs["audio"] is None else len(inputs["audio"]) / SAMPLING_RATE
        except FAILURES as error:
            inputs = error
        group.append((file, inputs))
        if seconds >= MAX_GROUP_S or len(group) >= GROUP_SIZE or number == len(files):
            yield group, seconds
            group, seconds = [], 0.0


def encode_spoken(file: Path, encoder, text: str | Callable[[np.ndarray], str], **options: Any) -> dict[str, Any]:
    """The record of one file with a text, or with a function that transcribes it; `options` are the pipeline's."""
    try:
        source = _source(file)
        if not isinstance(text, str):
            if file.suffix.lower() in CODE_EXTENSIONS:
                raise AudioError("It has no audio to transcribe. Name its recording, or give its words with --text.")
            text = text(load_audio(file)).strip()
            if not text:
                raise AudioError("No words were recognized in it. Encode it without --transcribe.")
        return _record(file, {**encoder(source, text=text, **options), "text": text})
    except FAILURES as error:
        return failure(file, message(error))


def failure(file: str | Path, error: str) -> dict[str, Any]:
    """The record of a file that could not be encoded."""
    return {"file": str(file), "error": error}


def _encode_group(group: list[tuple[Path, Any]], encoder, **params: Any) -> list[dict[str, Any]]:
    """Encode the readable files, recordings of similar length in batches; if a batch fails, one by one."""
    readable = [i for i, (_, inputs) in enumerate(group) if not isinstance(inputs, Exception)]
    columns = {name: [group[i][1][name] for i in readable] for name in ("audio", "audio_codes")}
    results: list[Any] = [inputs for _, inputs in group]
    try:
        encoded = encoder.forward(columns, **params)["results"]
    except FAILURES:
        encoded = []
        for i in readable:
            try:
                encoded.append(encoder.postprocess(encoder.forward(group[i][1], **params)))
            except FAILURES as error:
                encoded.append(error)
    for i, result in zip(readable, encoded, strict=True):
        results[i] = result
    return [_record(file, result) for (file, _), result in zip(group, results, strict=True)]


def _source(file: Path) -> Any:
    """The input for the pipeline: the arrays of voice prompts and codes, other files as audio."""
    if file.suffix.lower() not in CODE_EXTENSIONS:
        return file
    with open(file, "rb") as opened:
        is_array = opened.read(6) == b"\x93NUMPY"
    if is_array:
        return {"audio_codes": np.load(file, allow_pickle=False)}
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            has_codes = "audio_codes.npy" in archive.namelist()
        if has_codes:
            with np.load(file, allow_pickle=False) as arrays:
                return {"audio_codes": arrays["audio_codes"]}
    return file


def _record(file: Path, result: dict | Exception) -> dict[str, Any]:
    if isinstance(result, Exception):
        return failure(file, message(result))
    return {"file": str(file), **result}


def save_record(record: dict, target: Path) -> dict:
    """Write the arrays of a record to `target` and name it in the record."""
    arrays: dict[str, Any] = {name: value for name, value in record.items() if isinstance(value, np.ndarray)}
    try:
        with atomic_write(target, error_class=AudioError) as opened:
            np.savez(opened, **arrays)
    except (OSError, ValueError) as error:
        return {"file": record["file"], "error": message(error)}
    return {**record, "output": str(target)}


def print_record(record: dict, *, as_json: bool = False) -> None:
    if as_json:
        record = {name: _plain(value) for name, value in record.items()}
        print(json.dumps(record), flush=True)
    elif "error" in record:
        say(f"{record['file']}: {record['error']}")
    else:
        tokens, confidence = record["semantic_tokens"], record["confidence"]
        shown = " ".join(map(str, tokens[:SHOWN_TOKENS])) + (" ..." if len(tokens) > SHOWN_TOKENS else "")
        mean = f"{confidence.mean():.0%}" if len(confidence) else "-"
        print(
            f"{record['file']}: {record['num_tokens']} tokens, {record['seconds']:.2f} s, confidence {mean}: {shown}"
        )
        if "text" in record:
            print(f"    {record['text']}")
        sys.stdout.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist() if value.dtype.kind in "iu" else np.round(value.astype(np.float64), 4).tolist()
    return round(value, 4) if isinstance(value, float) else value


def output_paths(files: list[Path], folder: Path | None) -> dict[str, Path]:
    """An output path in `folder` for every file: its name, with a number if another file or an input has it."""
    if folder is None:
        return {}
    inputs = {os.path.normcase(os.path.realpath(file)) for file in files}
    taken, targets = set(), {}
    for file in files:
        stem = file.stem.encode("utf-8", "surrogateescape")[:MAX_NAME_BYTES].decode("utf-8", "ignore") or "audio"
        number, name = 1, f"{stem}.npz"
        while name.casefold() in taken or os.path.normcase(os.path.realpath(folder / name)) in inputs:
            number += 1
            name = f"{stem}-{number}.npz"
        taken.add(name.casefold())
        targets[str(file)] = folder / name
    return targets


__all__ = ["encode_files", "encode_spoken", "failure", "input_files", "output_paths", "print_record", "save_record"]
