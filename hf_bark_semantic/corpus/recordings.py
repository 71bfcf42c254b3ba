"""Recordings with transcripts, as people keep them: LJSpeech, csv, tsv, jsonl, a `datasets` folder or Hub id.

read_recordings    -> recordings, none of them opened yet
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from datasets import Audio, Dataset
from datasets.config import HF_DATASETS_CACHE
from huggingface_hub.constants import HF_HOME, HF_HUB_CACHE

from .rows import open_dataset
from .tables import TABLES, read_table
from .untrusted import escapes

METADATA = ("metadata.csv", "metadata.tsv", "metadata.jsonl")
LJSPEECH_COLUMNS = ("file_name", "text", "normalized_text")  # keithito.com/LJ-Speech-Dataset
SUBFOLDERS = ("", "wavs", "clips")  # of LJSpeech and Common Voice
AUDIO_COLUMNS = ("audio", "file_name", "filename", "path", "file", "audio_path", "audio_file", "wav")
TEXT_COLUMNS = ("normalized_text", "text", "transcription", "transcript", "sentence")
VOICE_COLUMNS = ("voice", "speaker", "speaker_id", "client_id")


@dataclass(frozen=True, eq=False)
class Recording:
    """A recording with its transcript, not yet opened.

    Args:
        id (`str`): as the table names it.
        text (`str`), voice (`str`): what is said, and by whom.
        read (`Callable`): gives what [`load_audio`] reads, or raises a [`RecordingFlaw`].
        stamp (`str`): another one when the file has changed.
    """

    id: str
    text: str
    voice: str
    read: Callable[[], Any]
    stamp: str = ""

    @classmethod
    def of_file(cls, id: str, text: str, voice: str, file: Path) -> "Recording":
        stat = file.stat()
        return cls(id, text, voice, partial(Path, file), f"{stat.st_size} {stat.st_mtime_ns}")


class RecordingFlaw(ValueError):
    """Why a recording is left out: in a word (`kind`) and in a sentence."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


def read_recordings(source: str | os.PathLike, *, split: str = "train") -> list[Recording]:
    """Find recordings and their transcripts.

    Args:
        source (`str` or `Path`): one of
            a folder with a `metadata.csv` (LJSpeech's `id|text|normalized text`, or with a header), `metadata.tsv` or
            `metadata.jsonl`, or such a file of any name: its paths are relative to it and may not leave its folder;
            a folder of `save_to_disk` or with Parquet files, or a Hub id.
        split (`str`): of a dataset.

    Returns:
        `list[Recording]`: one per row, in order. The columns may have any of the names in `AUDIO_COLUMNS`,
            `TEXT_COLUMNS` and `VOICE_COLUMNS`; without the last, all are of one voice.

    Raises:
        ValueError: no recordings, no such column, or a table that cannot be read.
    """
    path = Path(source)
    table = next((path / name for name in METADATA if (path / name).is_file()), None)
    if path.suffix.lower() in TABLES:
        table = path
    recordings = _recordings_of_dataset(str(source), split) if table is None else _recordings_of_table(table)
    if not recordings:
        raise ValueError(f"{str(source)!r} holds no recordings.")
    return recordings


def _recordings_of_table(path: Path) -> list[Recording]:
    recordings, seen = [], set()
    for row in read_table(path, AUDIO_COLUMNS, without_header=LJSPEECH_COLUMNS):
        row = {name.lower(): value for name, value in row.items()}
        name = str(_column(row, AUDIO_COLUMNS, path) or "")
        text, voice = str(_column(row, TEXT_COLUMNS, path) or ""), str(_column(row, VOICE_COLUMNS) or "")
        try:
            file = _file_inside(path.parent, name)
            if name in seen:
                raise RecordingFlaw("duplicate", f"{name!r} is listed twice.")
            recordings.append(Recording.of_file(name, text, voice, file))
        except RecordingFlaw as flaw:
            recordings.append(Recording(name, text, voice, partial(_raise, flaw), stamp=str(flaw)))
        seen.add(name)
    return recordings


def _recordings_of_dataset(place: str, split: str) -> list[Recording]:
    path = Path(place)
    if path.exists() and not (path / "state.json").exists() and not any(path.rglob("*.parquet")):
        raise ValueError(
            f"{place!r} has no {', '.join(METADATA)} and is no dataset. Write a metadata.csv into it: a line "
            "`file_name|text` for each recording, or a header with these two names."
        )
    dataset = open_dataset(place, split=split)
    column = next((name for name in AUDIO_COLUMNS if isinstance(dataset.features.get(name), Audio)), None)
    if column is None:
        raise _no_column(place, AUDIO_COLUMNS, dataset.column_names)
    roots = [path] if path.exists() else [HF_HOME, HF_HUB_CACHE, HF_DATASETS_CACHE]
    sounds = dataset.cast_column(column, Audio(decode=False))  # load_audio decodes, without torchcodec
    return [
        Recording(
            id=f"{index:08d}",
            text=str(_column(row, TEXT_COLUMNS, place) or ""),
            voice=str(_column(row, VOICE_COLUMNS) or ""),
            read=partial(_audio_of_row, sounds, index, column, roots),
        )
        for index, row in enumerate(dataset.remove_columns(column))
    ]


def _audio_of_row(dataset: Dataset, index: int, column: str, roots: Sequence[str | os.PathLike]) -> Mapping:
    audio = dataset[index][column]
    if audio["bytes"] is None:
        file = Path(audio["path"] or "").resolve()
        if not any(file.is_relative_to(Path(root).resolve()) for root in roots):
            raise RecordingFlaw("path", f"{audio['path']!r} lies outside of the dataset, and is not read.")
    return audio


def _column(row: Mapping, names: Sequence[str], place: Any = None) -> Any:
    """The value of the first of the columns that is there and not empty; `place` is named if there is none."""
    found = [row[name] for name in names if name in row]
    if not found and place is not None:
        raise _no_column(place, names, row)
    return next((value for value in found if value), None)


def _no_column(place: Any, names: Sequence[str], there: Iterable[str]) -> ValueError:
    there = ", ".join(map(str, there)) or "none"
    return ValueError(f"{str(place)!r} has no column {' or '.join(names)}; it has {there}. Rename one.")


def _file_inside(root: Path, name: str) -> Path:
    """The recording that a table names; in its own words, "LJ001-0001" may stand for "wavs/LJ001-0001.wav"."""
    path, outside = PurePosixPath(name.replace("\\", "/")), escapes(name)
    candidates = [] if outside else [root / sub / f"{path}{end}" for sub in SUBFOLDERS for end in ("", ".wav")]
    file = next((file for file in candidates if file.is_file()), None)
    if outside or (file is not None and not file.resolve().is_relative_to(root.resolve())):
        raise RecordingFlaw("path", f"{name!r} lies outside of the table's folder, and is not read. Move it there.")
    if file is None:
        raise RecordingFlaw("no file", f"There is no file {name!r} in the table's folder.")
    return file


def _raise(error: Exception):
    raise error


__all__ = ["Recording", "RecordingFlaw", "read_recordings"]
