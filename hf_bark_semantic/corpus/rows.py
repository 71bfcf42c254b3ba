"""Rows of a corpus, as clips.

A row has `id`, `voice`, `kind` or `language`, `text`, `fold`, `semantic_tokens` (n,), `audio_codes` (8, T) or empty,
and `audio` (16 kHz, a `datasets` audio value, empty or none).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Audio, Dataset, load_dataset, load_from_disk

from ..audio import load_audio
from ..configuration_bark_semantic import SAMPLING_RATE, num_codec_frames, num_samples_of_codec_frames

COLUMNS = ("id", "voice", "semantic_tokens", "audio_codes")


@dataclass(frozen=True)
class Clip:
    """One row of a corpus, as arrays."""

    id: str
    source: str
    kind: str
    voice: str
    fold: int
    in_folds: bool
    semantic_tokens: np.ndarray  # (num_tokens,) int64
    audio_codes: np.ndarray | None  # (8, num_frames) int64; codebook_size where unknown
    waveform: np.ndarray | None  # (num_samples,) float32, 16 kHz
    text: str = ""

    @property
    def num_tokens(self) -> int:
        return len(self.semantic_tokens)


def load_corpus(path: str) -> list[Clip]:
    """Read a corpus from a `datasets` folder or Hub id into memory.

    Raises:
        ValueError: a column is missing, or tokens, codes and audio of a row have lengths that don't belong together
            (the formula of `num_codec_frames`); the message names the row.
    """
    return list(read_corpus(path))


def read_corpus(path: str) -> Iterator[Clip]:
    """Read a corpus clip by clip, for one that is larger than memory; see [`load_corpus`]."""
    for row in checked_corpus(_load_dataset(path), path).with_format("numpy"):
        yield clip_of_row(row)


def checked_corpus(dataset, path: str):
    """A `Dataset` or `IterableDataset` with the columns of a corpus, whose audio stays as it was stored."""
    features = dataset.features or {}
    missing = [column for column in COLUMNS if column not in features]
    if missing:
        raise ValueError(f"The corpus {path} lacks the columns {missing}; it has {list(features)}.")
    if isinstance(features.get("audio"), Audio):
        dataset = dataset.cast_column("audio", Audio(decode=False))  # load_audio decodes, without torchcodec
    return dataset


def _load_dataset(path: str) -> Dataset:
    try:
        return load_from_disk(path)
    except FileNotFoundError:
        return load_dataset(path, split="train")


def clip_of_row(row: Mapping[str, Any]) -> Clip:
    """A row of a corpus as a [`Clip`]; its lengths are checked as [`load_corpus`] says."""
    tokens, codes = np.asarray(row["semantic_tokens"]), row["audio_codes"]
    some = codes is not None and len(codes)
    codes = np.stack([np.asarray(codebook) for codebook in codes]) if some else np.zeros((0, 0), int)
    audio = row.get("audio")
    if isinstance(audio, Mapping):
        audio = load_audio(audio, SAMPLING_RATE)
    waveform = np.asarray([] if audio is None else audio, np.float32)
    num_frames = num_codec_frames(len(tokens))
    if codes.size and codes.shape[1] != num_frames:
        raise ValueError(
            f"{row['id']}: {len(tokens)} tokens make {num_frames} codec frames, but there are {codes.shape[1]}. "
            "The pair is corrupt; remove it."
        )
    num_samples = num_samples_of_codec_frames(num_frames)
    if waveform.size and abs(len(waveform) - num_samples) > 2:
        raise ValueError(
            f"{row['id']}: {len(tokens)} tokens make {num_samples} samples at 16 kHz, but there are {len(waveform)}. "
            "The pair is corrupt; remove it."
        )
    return Clip(
        id=str(row["id"]),
        source=str(row.get("source", "")),
        kind=str(row.get("kind") or row.get("language") or ""),
        text=str(row.get("text") or ""),
        voice=str(row["voice"]),
        fold=int(row.get("fold", -1)),
        in_folds=bool(row.get("in_folds", True)),
        semantic_tokens=tokens.astype(np.int64),
        audio_codes=codes.astype(np.int64) if codes.size else None,
        waveform=np.pad(waveform, (0, max(0, num_samples - len(waveform)))) if waveform.size else None,
    )


def split_fold(clips: Sequence[Clip], fold: int | None) -> tuple[list[Clip], list[Clip]]:
    """Training and held-out clips. With a fold, clips that may share a voice or a text with it are in neither."""
    if fold is None:
        return list(clips), []
    usable = [clip for clip in clips if clip.in_folds]
    return [c for c in usable if c.fold != fold], [c for c in usable if c.fold == fold]
