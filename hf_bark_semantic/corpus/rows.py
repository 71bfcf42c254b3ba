"""The rows of a corpus: their columns, and how they are read.

    row_features    the columns of a corpus, as `datasets.Features`
    Clip            a row as arrays
    read_corpus     iterate over the clips of a corpus; `load_corpus` reads all of them into memory
    open_dataset    open a folder, Hub id or URL as a `datasets` object
    stored_audio    the value of the column `audio` for a waveform
    stored_fold     the values of the columns `fold` and `in_folds` for a fold

Training reads any dataset with the columns `id`, `voice`, `semantic_tokens` and `audio_codes`. It may have the other
columns of [`row_features`] and `kind`; the audio may also be an array at 16 kHz.
"""

import io
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from datasets import Audio, Dataset, Features, IterableDataset, List, Value, load_dataset, load_from_disk

from ..audio import load_audio
from ..configuration_bark_semantic import (
    CODEC_SAMPLING_RATE,
    SAMPLING_RATE,
    num_codec_frames,
    num_samples_of_codec_frames,
)

MEASURES = (
    "silence_share", "clipped_share", "repeated_share", "duration_ratio", "level_spread_db",
    "word_error_rate", "speaker_similarity",
)  # fmt: skip
COLUMNS = {
    "id": Value("string"),
    "source": Value("string"),
    "text": Value("string"),
    "language": Value("string"),
    "voice": Value("string"),
    "seed": Value("int64"),
    "semantic_temperature": Value("float32"),
    "coarse_temperature": Value("float32"),
    "fine_temperature": Value("float32"),
    "model": Value("string"),
    "revision": Value("string"),
    "semantic_tokens": List(Value("int32")),  # (num_tokens,)
    "audio_codes": List(List(Value("int16"))),  # (8, num_frames)
    "confidence": Value("float32"),
    "fold": Value("int64"),
    "in_folds": Value("bool"),
    "finish_reason": Value("string"),
    "failed_filters": List(Value("string")),
    "measures": {name: Value("float32") for name in MEASURES},
    "audio": Audio(decode=False),
}
FOLD_COLUMNS = {"fold", "in_folds"}
SPEECH_COLUMNS = COLUMNS.keys() - {"confidence", "audio", *FOLD_COLUMNS}  # Bark's own speech; audio is optional
RECORDING_COLUMNS = {"id", "source", "text", "voice", "semantic_tokens", "audio_codes", "confidence"}
REQUIRED = ("id", "voice", "semantic_tokens", "audio_codes")
NO_TOKEN = -100  # in place of an unknown semantic token; losses ignore it
LENGTH_TOLERANCE = 2  # samples: rounding by resampling
ROWS_AT_ONCE = 64  # rows in memory while a corpus is read


def row_features(columns: Collection[str], *, sampling_rate: int | None = CODEC_SAMPLING_RATE) -> Features:
    """The columns of a corpus, in their order.

    Args:
        columns (`Collection[str]`): names of `COLUMNS`.
        sampling_rate (`int`, *optional*): of the column `audio`; `None` if it varies by row.

    Raises:
        ValueError: a name that is not in `COLUMNS`.
    """
    unknown = set(columns) - COLUMNS.keys()
    if unknown:
        raise ValueError(f"A corpus has no columns {sorted(unknown)}; its columns are among {', '.join(COLUMNS)}.")
    features = {**COLUMNS, "audio": Audio(sampling_rate=sampling_rate, decode=False)}
    return Features({name: feature for name, feature in features.items() if name in columns})


class SoftLabels(NamedTuple):
    """The likeliest tokens by other encoders: `tokens` and `probabilities`, `(num_tokens, top_k)`; rows sum to 1."""

    tokens: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True)
class Clip:
    """A row of a corpus, as arrays.

    Args:
        id (`str`), voice (`str`): as in the row.
        source (`str`): the origin of the row, by which a batch plan selects rows.
        kind (`str`): the group by which accuracy is reported: the row's `kind`, else its language, else its source.
        fold (`int`): the fold in which it is held out; -1 for none.
        in_folds (`bool`): `False` if it is trained on only where nothing is held out.
        semantic_tokens (`np.ndarray` of shape `(num_tokens,)`): int64; `NO_TOKEN` where unknown.
        audio_codes (`np.ndarray` of shape `(8, num_frames)`, *optional*): int64; the codebook's size where a code is
            unknown.
        waveform (`np.ndarray` of shape `(num_samples,)`, *optional*): float32, 16 kHz.
        text (`str`): the transcript.
        finish_reason (`str`): as in [`SynthesisResult`]; empty for recordings.
        failed_filters (`tuple[str, ...]`): names of the filters that it failed.
        language (`str`): as in the row.
        community_tokens (`np.ndarray` of shape `(num_community_tokens,)`, *optional*): int64; tokens from
            the community's quantizer for the same audio, delayed as [`preset_rows`] describes.
        soft_labels ([`SoftLabels`], *optional*): added by distillation; no corpus has them.
    """

    id: str
    source: str
    kind: str
    voice: str
    fold: int
    in_folds: bool
    semantic_tokens: np.ndarray
    audio_codes: np.ndarray | None
    waveform: np.ndarray | None
    text: str = ""
    finish_reason: str = ""
    failed_filters: tuple[str, ...] = ()
    language: str = ""
    community_tokens: np.ndarray | None = None
    soft_labels: SoftLabels | None = None

    @property
    def num_tokens(self) -> int:
        return len(self.semantic_tokens)

    @property
    def has_tokens(self) -> bool:
        """Whether the clip has semantic tokens, all of them known."""
        return self.num_tokens > 0 and bool((self.semantic_tokens != NO_TOKEN).all())


def load_corpus(place: str | os.PathLike) -> list[Clip]:
    """Read a corpus into memory; see [`read_corpus`]."""
    return list(read_corpus(place))


def read_corpus(place: str | os.PathLike, *, with_audio: bool = True) -> Iterator[Clip]:
    """Read a corpus clip by clip, with few rows in memory.

    Args:
        place (`str` or `Path`): a corpus folder, whose Parquet files are read in place; or what [`open_dataset`]
            opens.
        with_audio (`bool`): read and decode the column `audio`.

    Raises:
        ValueError: there is no dataset, a column is missing, or the lengths of a row's tokens, codes and audio don't
            match (by `num_codec_frames`); the message names the row.
    """
    for part in dataset_parts(place, with_audio):
        for row in checked_corpus(part, place).with_format("numpy"):
            yield clip_of_row(row)


def open_dataset(
    place: str | os.PathLike, *, split: str = "train", streaming: bool = False
) -> Dataset | IterableDataset:
    """Open a folder of `save_to_disk`, a folder with data files, a Hub id, or a corpus in an object store.

    Args:
        place (`str` or `Path`): for an object store, a URL for fsspec, such as `s3://bucket/corpus`, with Parquet
            files in `data/`. Keys and endpoints are set as fsspec documents.
        split (`str`): ignored for a folder of `save_to_disk`, which has no splits.
        streaming (`bool`): return an `IterableDataset`, which reads rows when they are needed.

    Raises:
        ImportError: fsspec needs another package for the URL; the message names it.
        ValueError: there is no such dataset.
    """
    try:
        if "://" in str(place):
            files = {split: f"{str(place).rstrip('/')}/data/{split}-*.parquet"}
            return load_dataset("parquet", data_files=files, split=split, streaming=streaming)
        if not (Path(place) / "state.json").exists():
            return load_dataset(str(place), split=split, streaming=streaming)
        dataset = load_from_disk(place)
        return dataset.to_iterable_dataset(num_shards=1) if streaming else dataset
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{str(place)!r} cannot be read as a dataset: {reason}") from error


def checked_corpus(dataset: Dataset | IterableDataset, place: str | os.PathLike) -> Dataset | IterableDataset:
    """Check the columns of a dataset, and leave its audio undecoded.

    Raises:
        ValueError: a column of `REQUIRED` is missing.
    """
    features = dataset.features or {}
    missing = [column for column in REQUIRED if column not in features]
    if missing:
        raise ValueError(f"The corpus {str(place)!r} lacks the columns {missing}; it has {list(features)}.")
    if isinstance(features.get("audio"), Audio):
        dataset = dataset.cast_column("audio", Audio(decode=False))  # load_audio decodes it, without torchcodec
    return dataset


def clip_of_row(row: Mapping[str, Any]) -> Clip:
    """A row as a [`Clip`]; its lengths are checked as in [`read_corpus`]."""
    tokens, codes = _ids(row, "semantic_tokens", 1), _ids(row, "audio_codes", 2)
    failed, community = row.get("failed_filters"), row.get("community_tokens")
    num_frames = num_codec_frames(len(tokens))
    if codes.size and codes.shape[1] != num_frames:
        raise ValueError(
            f"{row['id']}: {len(tokens)} tokens make {num_frames} codec frames, but there are {codes.shape[1]}. "
            "The pair is corrupt; remove it."
        )
    return Clip(
        id=str(row["id"]),
        source=str(row.get("source") or ""),
        kind=str(row.get("kind") or row.get("language") or row.get("source") or "all"),
        voice=str(row["voice"] or ""),
        fold=_fold(row),
        in_folds=bool(row.get("in_folds", True)),
        semantic_tokens=tokens,
        audio_codes=codes if codes.size else None,
        waveform=_waveform_of_row(row, len(tokens)),
        text=str(row.get("text") or ""),
        finish_reason=str(row.get("finish_reason") or ""),
        failed_filters=() if failed is None else tuple(map(str, failed)),
        language=str(row.get("language") or ""),
        community_tokens=None if community is None or not len(community) else np.asarray(community, np.int64),
    )


def _ids(row: Mapping[str, Any], column: str, ndim: int) -> np.ndarray:
    """The ids of a column, int64 of rank `ndim`; empty where the row has none."""
    values = row[column]
    try:
        ids = np.asarray([] if values is None else values) if ndim == 1 else _stacked(values)
    except (ValueError, TypeError):
        ids = np.zeros((), object)
    if not ids.size:
        return np.zeros((0,) * ndim, np.int64)
    known = ids[ids != NO_TOKEN] if column == "semantic_tokens" else ids
    if ids.ndim != ndim or ids.dtype.kind not in "iu" or known.min(initial=0) < 0:
        raise ValueError(
            f"{row['id']}: {column} must be whole numbers, 0 or more, of shape "
            f"{'(num_tokens,), or -100 where unknown' if ndim == 1 else '(num_codebooks, num_frames)'}. The row is "
            "corrupt; remove it."
        )
    return ids.astype(np.int64)


def _fold(row: Mapping[str, Any]) -> int:
    fold = -1 if row.get("fold") is None else row["fold"]
    if not isinstance(fold, int | np.integer):
        raise ValueError(f"{row['id']}: fold is {fold!r}; it must be a whole number. The row is corrupt; remove it.")
    return int(fold)


def _stacked(values: Any) -> np.ndarray:
    some = values is not None and len(values)
    return np.stack([np.asarray(codebook) for codebook in values]) if some else np.zeros(0)


def stored_audio(name: str, waveform: np.ndarray, sampling_rate: int) -> dict[str, Any]:
    """A waveform of shape `(num_samples,)` as 16-bit FLAC; samples beyond full scale are clipped."""
    content = io.BytesIO()
    soundfile.write(content, waveform, sampling_rate, format="FLAC", subtype="PCM_16")
    return {"bytes": content.getvalue(), "path": f"{name}.flac"}


def stored_fold(fold: int | None) -> dict[str, Any]:
    """The columns of a fold; `None` is for a clip that is trained on only where nothing is held out."""
    return {"fold": -1 if fold is None else fold, "in_folds": fold is not None}


def split_fold(clips: Sequence[Clip], fold: int | None) -> tuple[list[Clip], list[Clip]]:
    """Training clips and held-out clips of a fold; with a fold, clips without `in_folds` are in neither."""
    if fold is None:
        return list(clips), []
    usable = [clip for clip in clips if clip.in_folds]
    return [c for c in usable if c.fold != fold], [c for c in usable if c.fold == fold]


def dataset_parts(place: str | os.PathLike, with_audio: bool = True) -> Iterator[Dataset]:
    """Yield a corpus in parts; unlike `load_dataset`, Parquet files are not copied."""

    def wanted(names: Collection[str]) -> list[str]:
        return [name for name in names if with_audio or name != "audio"]

    files = sorted(Path(place).glob("data/train-*.parquet"))
    for path in files:
        yield from _parts_of_file(path, wanted)
    if not files:
        dataset = open_dataset(place)
        yield dataset.select_columns(wanted(dataset.column_names))


def _parts_of_file(path: Path, wanted: Callable[[Collection[str]], list[str]]) -> Iterator[Dataset]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=wanted(file.schema_arrow.names)):
                table = pa.Table.from_batches([batch]).replace_schema_metadata()
                table.validate(full=True)  # checks that texts are UTF-8, too
                yield Dataset(table)
    except Exception as error:  # Arrow and its decompressors raise many kinds of errors for damaged files
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{str(path)!r} is not a Parquet file, or it is damaged: {reason}. Make it again.") from error


def _waveform_of_row(row: Mapping[str, Any], num_tokens: int) -> np.ndarray | None:
    audio = row.get("audio")
    try:
        if isinstance(audio, Mapping):
            audio = load_audio(audio, SAMPLING_RATE)
        waveform = np.asarray([] if audio is None else audio, np.float32)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{row['id']}: its audio is neither a file nor samples: {error}. Remove the row.") from error
    if not waveform.size:
        return None
    num_samples = num_samples_of_codec_frames(num_codec_frames(num_tokens))
    if waveform.ndim != 1 or abs(len(waveform) - num_samples) > LENGTH_TOLERANCE:
        raise ValueError(
            f"{row['id']}: {num_tokens} tokens make {num_samples} samples at 16 kHz, but the shape of its audio is "
            f"{waveform.shape}. The pair is corrupt; remove it."
        )
    return np.pad(waveform, (0, max(0, num_samples - len(waveform))))


__all__ = [
    "COLUMNS",
    "FOLD_COLUMNS",
    "MEASURES",
    "NO_TOKEN",
    "RECORDING_COLUMNS",
    "SPEECH_COLUMNS",
    "Clip",
    "SoftLabels",
    "dataset_parts",
    "load_corpus",
    "open_dataset",
    "read_corpus",
    "row_features",
    "split_fold",
    "stored_audio",
    "stored_fold",
]
