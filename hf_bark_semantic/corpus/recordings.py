"""Recordings with transcripts: in a table, in a `datasets` folder or on the Hub.

read_recordings    find the recordings, without opening them
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import soundfile
from datasets import Audio, Dataset
from datasets.config import HF_DATASETS_CACHE
from huggingface_hub.constants import HF_HOME, HF_HUB_CACHE

from ..audio import load_audio
from ..configuration_bark_semantic import CODEC_SAMPLING_RATE
from ..files import stamp_of_file
from .columns import AUDIO_ENDINGS, columns_by_name
from .flaws import RecordingFlaw
from .rows import open_dataset
from .tables import TABLES, read_table
from .untrusted import escapes

METADATA = tuple(f"metadata{ending}" for ending in TABLES)
SUBFOLDERS = ("", "wavs", "wav", "clips")  # LJSpeech, piper, Common Voice
ENDINGS = ("", *AUDIO_ENDINGS, *map(str.upper, AUDIO_ENDINGS))
ONE_SPEAKER = (
    "{}: no column names the speaker, so all recordings count as one voice. If there are several speakers, "
    "name their column: --columns speaker=NAME."
)


@dataclass(frozen=True, eq=False)
class Recording:
    """A recording with its transcript, not yet opened.

    Args:
        id (`str`): its name in the table.
        text (`str`), voice (`str`): the transcript, and the speaker.
        read (`Callable`): returns an input for [`load_audio`], or raises a [`RecordingFlaw`].
        stamp (`str`): changes when the file changes.
    """

    id: str
    text: str
    voice: str
    read: Callable[[], Any]
    stamp: str = ""

    @classmethod
    def of_file(cls, id: str, text: str, voice: str, file: Path) -> "Recording":
        return cls(id, text, voice, partial(Path, file), stamp_of_file(file))


def read_recordings(
    source: str | os.PathLike,
    *,
    split: str = "train",
    columns: Mapping[str, str] | None = None,
    audio_folder: str | os.PathLike | None = None,
    log: Callable[[str], Any] = lambda line: None,
) -> list[Recording]:
    """Find recordings and their transcripts.

    Args:
        source (`str` or `Path`): one of
            a folder with a `metadata.csv` (or `.tsv`, `.txt`, `.jsonl`, `.json`), or such a table by any name: its
            paths are relative to its folder and may not leave it; they need no ending, and files in `wavs/`, `wav/`
            or `clips/` are found by their names;
            a folder of `save_to_disk` or with Parquet files, or a Hub id.
        split (`str`): the split of a dataset.
        columns (`Mapping[str, str]`, *optional*): names or 1-based numbers of the columns `audio`, `text`, `speaker`,
            `offset` and `duration` (seconds; such rows are parts of a file), where [`read_table`] doesn't find them.
        audio_folder (`str` or `Path`, *optional*): the folder that paths are relative to, instead of the table's.
        log: is called with lines that describe the columns.

    Returns:
        `list[Recording]`: one per row, in order. Without a column of speakers, all have one voice.

    Raises:
        ValueError: no recordings, no such column, or a table that cannot be read.
    """
    path, columns = Path(source), columns or {}
    table = next((path / name for name in METADATA if (path / name).is_file()), None)
    if path.suffix.lower() in TABLES and not path.is_dir():
        table = path
    if table is None:
        recordings = _recordings_of_dataset(str(source), split, columns, log)
    else:
        recordings = _recordings_of_table(table, Path(audio_folder or table.parent), columns, log)
    if not recordings:
        raise ValueError(f"{str(source)!r} holds no recordings.")
    return recordings


def _recordings_of_table(path: Path, folder: Path, columns: Mapping[str, str], log: Callable) -> list[Recording]:
    table = read_table(path, needed=("audio", "text"), columns=columns)
    log(str(table))
    if "speaker" not in table.roles:
        log(ONE_SPEAKER.format(path))
    recordings, seen = [], set()
    for row in table:
        name = id = row["audio"]
        stamp = ""
        try:
            file, (offset_s, duration_s) = _file_inside(folder, name), _part_of_file(row)
            if "offset" in row:
                id, stamp = f"{name}@{offset_s:g}", f" {offset_s} {duration_s}"
            if id in seen:
                raise RecordingFlaw("duplicate", f"{id!r} is listed twice.")
            if row.get("speaker") == "":
                raise RecordingFlaw("no speaker", "Other rows name a speaker, and this one does not.")
            read = partial(_read_part, file, offset_s, duration_s) if stamp else partial(Path, file)
            stamp = f"{stamp_of_file(file)}{stamp}"
        except RecordingFlaw as flaw:
            read, stamp = partial(_raise, flaw), str(flaw)
        recordings.append(Recording(id, row["text"], row.get("speaker", ""), read, stamp))
        seen.add(id)
    return recordings


def _recordings_of_dataset(place: str, split: str, columns: Mapping[str, str], log: Callable) -> list[Recording]:
    path = Path(place)
    if path.exists() and not (path / "state.json").exists() and not any(path.rglob("*.parquet")):
        tables = ", ".join(sorted(file.name for file in path.glob("*") if file.suffix.lower() in TABLES))
        raise ValueError(
            f"{place!r} has no {', '.join(METADATA)} and is not a dataset. Add a metadata.csv: a line "
            "`file_name|text` for each recording, or a header with these two names"
            + (f"; or name a table of it instead of the folder: {tables}." if tables else ".")
        )
    dataset = open_dataset(place, split=split)
    names = dataset.column_names
    roles = columns_by_name(names, place, needed=("audio", "text"), columns=columns)
    column = next((names[c] for c in roles["audio"] if isinstance(dataset.features[names[c]], Audio)), None)
    if column is None:
        raise ValueError(f"{place!r} has no audio column; it has {', '.join(names)}. Name it: --columns audio=NAME.")
    wanted = {role: [names[c] for c in roles.get(role, ())] for role in ("text", "speaker")}
    meanings = [f"{name!r} -> {role}" for role, found in wanted.items() for name in found]
    log(f"{place}: {len(dataset):,} rows. Column {column!r} -> audio, {', '.join(meanings)}; the rest is not read.")
    if not wanted["speaker"]:
        log(ONE_SPEAKER.format(place))
    roots = [path] if path.exists() else [HF_HOME, HF_HUB_CACHE, HF_DATASETS_CACHE]
    sounds = dataset.cast_column(column, Audio(decode=False))  # load_audio decodes it, without torchcodec
    return [
        Recording(
            id=f"{index:08d}",
            text=_first(row, wanted["text"]),
            voice=_first(row, wanted["speaker"]),
            read=partial(_audio_of_row, sounds, index, column, roots),
        )
        for index, row in enumerate(dataset.remove_columns(column))
    ]


def _first(row: Mapping, names: Sequence[str]) -> str:
    return next((str(row[name]) for name in names if row[name]), "")


def _audio_of_row(dataset: Dataset, index: int, column: str, roots: Sequence[str | os.PathLike]) -> Mapping:
    audio = dataset[index][column]
    if audio["bytes"] is None:
        file = Path(audio["path"] or "").resolve()
        if not any(file.is_relative_to(Path(root).resolve()) for root in roots):
            raise RecordingFlaw("path", f"{audio['path']!r} lies outside of the dataset, and is not read.")
    return audio


def _file_inside(root: Path, name: str) -> Path:
    """The recording for a name in a table, such as "LJ001-0001" for "wavs/LJ001-0001.wav"."""
    within = next((base for base in (root.absolute(), root.resolve()) if Path(name).is_relative_to(base)), None)
    inner = name if within is None else str(Path(name).relative_to(within))  # NeMo's paths are absolute
    path, outside = PurePosixPath(inner.replace("\\", "/")), escapes(inner)
    candidates = [] if outside else [root / sub / f"{path}{end}" for sub in SUBFOLDERS for end in ENDINGS]
    file = next((file for file in candidates if os.path.isfile(file)), None)
    if outside or (file is not None and not file.resolve().is_relative_to(root.resolve())):
        raise RecordingFlaw("path", f"{name!r} lies outside of the table's folder, and is not read.")
    if file is None:
        searched = f"{str(root)!r} or its {', '.join(SUBFOLDERS[1:])}"
        raise RecordingFlaw("no file", f"There is no file {name!r} in {searched}.")
    return file


def _part_of_file(row: Mapping[str, str]) -> tuple[float, float | None]:
    """Offset and duration in seconds, as in NeMo's manifests; without a duration, the part ends with the file."""
    texts = row.get("offset") or "0", row.get("duration") or "inf"
    try:
        offset_s, duration_s = map(float, texts)
    except ValueError:
        offset_s = duration_s = math.nan
    if not (0 <= offset_s < math.inf and duration_s > 0):
        raise RecordingFlaw("offset", f"Offset {texts[0]!r} or duration {texts[1]!r} is not a number of seconds.")
    return offset_s, None if duration_s == math.inf else duration_s


def _read_part(file: Path, offset_s: float, duration_s: float | None) -> dict[str, Any]:
    def bounds(rate: int, length: int) -> tuple[int, int]:
        start = round(min(offset_s * rate, length))
        return start, length if duration_s is None else round(min(start + duration_s * rate, length))

    try:
        with soundfile.SoundFile(file) as sound:
            rate, (start, stop) = sound.samplerate, bounds(sound.samplerate, sound.frames)
            sound.seek(start)
            samples = sound.read(stop - start, dtype="float32")
    except soundfile.LibsndfileError:  # another format: load_audio reads the whole file, or raises the error
        rate, whole = CODEC_SAMPLING_RATE, load_audio(file, CODEC_SAMPLING_RATE)
        samples = whole[slice(*bounds(rate, len(whole)))]
    return {"array": samples, "sampling_rate": rate}


def _raise(error: Exception):
    raise error


__all__ = ["Recording", "read_recordings"]
