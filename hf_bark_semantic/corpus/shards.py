"""A corpus as files: Parquet shards and their records, safe against crashes.

There are no locks, so any number of machines may write to one folder. A file is complete or missing, and every process
that makes a shard makes the same one.

    open_corpus       make the folder of a corpus, or check that of an earlier run
    is_recorded       whether a shard has a record
    finished_shards   the shards that are complete
    missing_shards    the other shards; several processes share the check
    write_shard       write the rows and the record of a shard
    shard_records     the records of all shards; `summarize_records` adds them up

    corpus/ corpus.json                everything that rows depend on: a run that continues must have the same
            data/train-00000.parquet   rows
            shards/00000.json          counts, failed filters, digest of the Parquet file; written last
            set_aside/                 damaged files, if there were any

`datasets.load_dataset(folder)` and `load_corpus(folder)` read the folder at any time.
"""

import contextlib
import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Features

from ..configuration_bark_semantic import CODEC_RATE_HZ, num_codec_frames
from ..files import atomic_write, differences, read_json, remove_unfinished, sha256_of_file, write_json

logger = logging.getLogger(__name__)

LEFTOVER_AFTER_S = 3600.0  # another process may still be writing a younger file


def open_corpus(folder: str | os.PathLike, description: Mapping[str, Any]) -> Path:
    """Make the folder of a corpus, or check that it contains the same corpus. Several runs may do so at once.

    Args:
        folder (`str` or `Path`): new, empty, or that of an earlier run.
        description (`Mapping`): everything that rows depend on; the plan's description is under `"plan"`.

    Raises:
        ValueError: the folder contains something else, or a corpus of another plan; the message names the differences.
    """
    folder = Path(folder)
    file = folder / "corpus.json"
    description = json.loads(json.dumps(description))
    folder.mkdir(parents=True, exist_ok=True)
    # Listed before corpus.json is looked for, because another run may be writing it.
    occupied = any(not path.name.startswith(".") for path in folder.iterdir())
    if file.exists():
        there = read_json(file, cure="Restore it from a copy, or name another folder.")
        _check_same(folder, there, description)
    elif occupied:
        raise ValueError(f"{str(folder)!r} contains files, but no corpus. Name another folder, or empty this one.")
    write_json(file, description)
    now_s = file.stat().st_mtime  # the clock of the file system, as for the other files
    remove_unfinished(folder, before_s=now_s - LEFTOVER_AFTER_S)
    return folder


def is_recorded(folder: Path, shard: int, num_rows: int) -> bool:
    """Whether a shard has a record with this number of planned rows; the rows are not read."""
    record = _read_record(_files_of(folder, shard)[1])
    return record is not None and record["planned_rows"] == num_rows


def finished_shards(folder: Path, planned_rows: Mapping[int, int]) -> list[int]:
    """The shards that exist and are intact. Damaged ones are moved to `set_aside/`, with a warning.

    Args:
        folder (`Path`): of a corpus.
        planned_rows (`Mapping[int, int]`): number of planned rows by shard. A shard with another number, such as the
            last one of a corpus that has grown since, is not finished.
    """
    finished = []
    for shard, num_rows in planned_rows.items():
        data, record_file = _files_of(folder, shard)
        record = _read_record(record_file)
        if record is None or record["planned_rows"] != num_rows:
            continue
        if data.exists() and sha256_of_file(data) == record["digest"]:
            finished.append(shard)
            continue
        logger.warning("%s is damaged or missing. It is made again; a damaged file is kept in set_aside/.", data)
        (folder / "set_aside").mkdir(exist_ok=True)
        for file in (data, record_file):
            with contextlib.suppress(FileNotFoundError):
                os.replace(file, folder / "set_aside" / f"shard-{shard:05d}{file.suffix}")
    return finished


def missing_shards(folder: Path, planned_rows: Mapping[int, int]) -> list[int]:
    """The shards that are not among [`finished_shards`], in order. The processes share the check."""
    state = PartialState()
    part = dict(list(planned_rows.items())[state.process_index :: state.num_processes])
    return sorted(planned_rows.keys() - set(gather_object(finished_shards(folder, part))))


def write_shard(folder: Path, shard: int, rows: Sequence[Mapping], record: Mapping, features: Features) -> None:
    """Write rows, then their record; without its record, a shard does not count as finished.

    Args:
        rows (`Sequence[Mapping]`): rows with the columns of `features`; arrays may be NumPy arrays.
        record (`Mapping`): from [`generate_shard`]; counts and the digest are added.

    Raises:
        OSError: the disk is full, or not writable. No partial file is left.
    """
    schema = features.arrow_schema
    table = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
    stream = pa.BufferOutputStream()
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        if rows:  # `datasets` can read a file without row groups, but no row group without rows
            writer.write_table(table)
    content = stream.getvalue().to_pybytes()
    frames = [num_codec_frames(len(row["semantic_tokens"])) for row in rows]
    languages = Counter()
    for row, num_frames in zip(rows, frames, strict=True):
        languages[row.get("language") or "unknown"] += num_frames / CODEC_RATE_HZ
    data, record_file = _files_of(folder, shard)
    record = {
        **record,
        "rows": len(rows),
        "tokens": sum(len(row["semantic_tokens"]) for row in rows),
        "speech_s": {language: round(seconds, 3) for language, seconds in sorted(languages.items())},
        "voices": dict(sorted(Counter(row["voice"] for row in rows).items())),
        "bytes": len(content),
        "digest": _digest(content),
    }
    for file in (data, record_file):
        file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(data) as file:
        file.write(content)
    write_json(record_file, record, indent=None)


def remove_shards(folder: Path, *, from_shard: int) -> None:
    """Remove all shards from a number on, when a corpus has become shorter."""
    for file in [*folder.glob("shards/*.json"), *folder.glob("data/*.parquet")]:
        if int(file.stem.rpartition("-")[2]) >= from_shard:
            file.unlink()


def shard_records(folder: str | os.PathLike) -> Iterator[dict]:
    """The records of all finished shards of a corpus, in order."""
    for file in sorted((Path(folder) / "shards").glob("*.json")):
        record = _read_record(file)
        if record is not None:
            yield record


def summarize_records(records: Iterable[Mapping]) -> dict[str, Any]:
    """Add up the records of shards.

    Returns:
        `dict`: `planned_rows`, `rows`, `rejected_rows`, `tokens`, `bytes`, `spoken_s` and `compute_s` (the last two
            before filters), and the counters `speech_s` (by language), `voices` (rows by voice) and `rejected` (rows
            by filter; a row may fail several).
    """
    total = dict.fromkeys(("planned_rows", "rows", "tokens", "bytes", "spoken_s", "compute_s", "rejected_rows"), 0)
    counters = {"speech_s": Counter(), "voices": Counter(), "rejected": Counter()}
    for record in records:
        for name in total:
            total[name] += record.get(name, 0)
        total["rejected_rows"] += len(record["rejected"])
        counters["speech_s"].update(record["speech_s"])
        counters["voices"].update(record["voices"])
        counters["rejected"].update(name for row in record["rejected"] for name in row["failed_filters"])
    return {**total, **counters}


def _check_same(folder: Path, there: Mapping, here: Mapping) -> None:
    folded = bool(there.get("recipe", {}).get("folds"))
    differing = [
        f"{name}: {'nothing' if before is None else before} there, {'nothing' if now is None else now} now"
        for name, (before, now) in sorted(differences(there, here).items())
        if not (name == "plan.num_rows" and (now or 0) >= (before or 0) and not folded)
    ]
    if differing:
        rule = "its folds were made for these rows" if folded else "rows may only be added"
        raise ValueError(
            f"{str(folder)!r} holds a corpus of another plan ({'; '.join(differing[:5])}). Repeat the options of the "
            f"first run ({rule}), or name another folder."
        )


def _files_of(folder: Path, shard: int) -> tuple[Path, Path]:
    return folder / "data" / f"train-{shard:05d}.parquet", folder / "shards" / f"{shard:05d}.json"


def _read_record(file: Path) -> dict | None:
    """A shard's record; `None` if it is missing or damaged."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        return record if {"planned_rows", "digest", "rejected"} <= set(record) else None
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


__all__ = [
    "finished_shards",
    "is_recorded",
    "missing_shards",
    "open_corpus",
    "remove_shards",
    "shard_records",
    "summarize_records",
    "write_shard",
]
