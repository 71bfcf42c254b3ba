"""Write pairs of tokens and audio as a corpus; each pair is checked, and corrupt ones are reported.

The lengths of tokens and audio must match as in Bark (`num_codec_frames`); nothing is trimmed to fit.
"""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
import soundfile

from ..audio import load_audio
from ..configuration_bark_semantic import (
    CODEBOOK_SIZE,
    CODEC_SAMPLING_RATE,
    SAMPLING_RATE,
    SEMANTIC_VOCAB_SIZE,
    num_codec_frames,
    num_samples_of_codec_frames,
    num_semantic_tokens_of_samples,
)
from ..files import fingerprint, stamp_of_file
from .rows import LENGTH_TOLERANCE, SPEECH_COLUMNS, row_features, stored_audio
from .shards import finished_shards, open_corpus, remove_shards, shard_records, write_shard
from .untrusted import read_file

UNKNOWN_VOICE = "unknown"


@dataclass(frozen=True, eq=False)
class Pair:
    """Tokens and their audio, not yet checked.

    Args:
        semantic_tokens (`np.ndarray` of shape `(num_tokens,)`): ids.
        audio (`bytes` or `Path`): an audio file, or its content.
        audio_codes (`np.ndarray` of shape `(8, num_frames)`, *optional*): `CODEBOOK_SIZE` where unknown.
    """

    semantic_tokens: np.ndarray
    audio: bytes | Path
    audio_codes: np.ndarray | None = None


# A reader yields the name of each pair and a function that reads it, so one corrupt pair does not stop the others.
Pairs = Iterator[tuple[str, Callable[[], Pair]]]


def import_pairs(
    pairs: Pairs, folder: str | os.PathLike, *, source: str = "pair", origin: str = "", rows_per_shard: int = 64
) -> list[tuple[str, str]]:
    """Write pairs as a corpus with audio. A repeated call continues a killed one; changed inputs are processed again.

    Args:
        pairs: from one of the readers in `formats`.
        folder (`str` or `Path`): new, empty, or that of an earlier run.
        source (`str`): value of the column `source`, by which a batch plan selects rows.
        origin (`str`): stored in `corpus.json`.
        rows_per_shard (`int`): pairs in a Parquet file.

    Returns:
        `list[tuple[str, str]]`: name and flaw of each pair that was left out; also in the shards' records.

    Raises:
        ValueError: the folder contains something else, or there is no intact pair.
    """
    first = list(islice(pairs, 1))  # a hostile archive raises here, before the folder is made
    if not first:
        raise ValueError("No intact pair was found (0 were refused).")
    pairs, features = chain(first, pairs), row_features({*SPEECH_COLUMNS, "audio"}, sampling_rate=None)
    folder = open_corpus(folder, {"imported_from": origin, "source": source, "rows_per_shard": rows_per_shard})
    done = {record.get("shard"): record.get("pairs") for record in shard_records(folder)}
    for shard in count():
        part = [(name, _read(read)) for name, read in islice(pairs, rows_per_shard)]
        if not part:
            break
        digest = _digest(part)
        if done.get(shard) == digest and finished_shards(folder, {shard: len(part)}):
            continue
        rows, rejected = [], []
        for name, pair in part:
            try:
                rows.append(_row(name, pair, source))
            except ValueError as error:
                rejected.append({"id": name, "failed_filters": [str(error)]})
        record = {"planned_rows": len(part), "rejected": rejected, "shard": shard, "pairs": digest}
        write_shard(folder, shard, rows, record, features)
    remove_shards(folder, from_shard=shard)
    records = list(shard_records(folder))
    refused = [(row["id"], row["failed_filters"][0]) for record in records for row in record["rejected"]]
    if not sum(record["rows"] for record in records):
        name, flaw = refused[0]
        raise ValueError(f"No intact pair was found ({len(refused)} were refused). The first: {name}: {flaw}.")
    return refused


def _read(read: Callable[[], Pair]) -> Pair | ValueError:
    """A pair, or the error of reading it."""
    try:
        return read()
    except ValueError as error:
        return error


def _digest(part: Sequence[tuple[str, Pair | ValueError]]) -> str:
    """A digest of the names, tokens and codes, and of the sizes and modification times of the audio files."""
    return fingerprint((name, *_content(pair)) for name, pair in part)


def _content(pair: Pair | ValueError) -> tuple:
    if isinstance(pair, ValueError):
        return (str(pair),)
    audio = pair.audio
    if isinstance(audio, Path):
        audio = stamp_of_file(audio) if os.path.isfile(audio) else "none"
    return pair.semantic_tokens, pair.audio_codes, audio


def _row(name: str, pair: Pair | ValueError, source: str) -> dict:
    if isinstance(pair, ValueError):
        raise pair
    tokens, codes = pair.semantic_tokens, pair.audio_codes
    if tokens.ndim != 1 or not len(tokens) or not 0 <= tokens.min() <= tokens.max() < SEMANTIC_VOCAB_SIZE:
        raise ValueError(
            f"its tokens of shape {tokens.shape} must be one or more ids in [0, {SEMANTIC_VOCAB_SIZE}); "
            "remove padding and end tokens"
        )
    num_frames = num_codec_frames(len(tokens))
    if codes is not None:
        if codes.shape[1] != num_frames:
            raise ValueError(f"{len(tokens)} tokens make {num_frames} codec frames, but there are {codes.shape[1]}")
        if codes.min() < 0 or codes.max() > CODEBOOK_SIZE:
            raise ValueError(
                f"its codes range from {codes.min()} to {codes.max()}; they must lie in [0, {CODEBOOK_SIZE})"
            )
    audio = pair.audio if isinstance(pair.audio, bytes) else read_file(pair.audio)
    waveform, sampling_rate = _waveform(audio)
    num_samples = num_samples_of_codec_frames(num_frames, sampling_rate)
    if abs(len(waveform) - num_samples) > LENGTH_TOLERANCE:
        fitting = num_semantic_tokens_of_samples(len(waveform), sampling_rate)
        raise ValueError(
            f"{len(tokens)} tokens make {num_samples} samples at {sampling_rate} Hz, but there are {len(waveform)}, "
            f"which hold {fitting} tokens"
        )
    return {
        "id": name,
        "source": source,
        "voice": UNKNOWN_VOICE,
        "semantic_tokens": tokens,
        "audio_codes": [] if codes is None else list(codes),
        "audio": stored_audio(name, waveform, sampling_rate),
    }


def _waveform(audio: bytes) -> tuple[np.ndarray, int]:
    """The waveform of an audio file and its sampling rate: 16 kHz if that is the file's rate, else 24 kHz."""
    try:
        with soundfile.SoundFile(io.BytesIO(audio)) as file:
            sampling_rate = SAMPLING_RATE if file.samplerate == SAMPLING_RATE else CODEC_SAMPLING_RATE
    except soundfile.LibsndfileError:
        sampling_rate = CODEC_SAMPLING_RATE  # load_audio raises the error
    return load_audio(audio, sampling_rate), sampling_rate


__all__ = ["Pair", "Pairs", "import_pairs"]
