"""Write the speech of `bark-semantic speak`: to a file when it is complete, or to stdout piece by piece.

A piece is an item of the voice-cloning pipeline's `stream`.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..audio import save_audio, wav_header, wav_samples, within_full_scale
from ..voices.provenance import Provenance
from .console import FAILURES, say

Pieces = Iterable[dict[str, Any]]
Note = Callable[[dict[str, Any]], Provenance | None]  # the label of a file, from one of its pieces

_ENDS: tuple[type[BaseException], ...] = (KeyboardInterrupt, *FAILURES)


def write_to_stdout(pieces: Pieces, note: Note) -> None:
    """Write a WAV piece by piece; after a piece above full scale, all pieces are scaled by the same factor."""
    gain = 1.0
    for piece in pieces:
        if piece["number"] == 1:
            sys.stdout.buffer.write(wav_header(piece["sampling_rate"], provenance=note(piece)))
        waveform, factor = within_full_scale(piece["audio"] * np.float32(gain))
        if factor < 1:
            gain *= factor
            _say_scaled(f"piece {piece['number']}", gain, "it and what follows")
        sys.stdout.buffer.write(wav_samples(waveform))
        sys.stdout.buffer.flush()


def write_file(pieces: Pieces, path: Path, note: Note) -> float:
    """Write all pieces at the end. After an error, finished pieces are written to a file beside it.

    Returns:
        `float`: the duration in seconds.
    """
    spoken: list[dict[str, Any]] = []
    try:
        spoken.extend(pieces)
        return _save(spoken, path, note)
    except _ENDS:
        if any(len(piece["audio"]) for piece in spoken):
            unfinished = path.with_name(f"{path.stem}.unfinished{path.suffix}")
            seconds = _save(spoken, unfinished, note)
            count = f"{len(spoken)} of {spoken[0]['num_pieces']} pieces"
            say(f"bark-semantic: {count} were finished; their {seconds:.2f} s of speech are in {unfinished}")
        raise


def _save(spoken: list[dict[str, Any]], path: Path, note: Note) -> float:
    waveform, factor = within_full_scale(np.concatenate([piece["audio"] for piece in spoken]))
    if factor < 1:
        _say_scaled("the speech", factor, "it")
    save_audio(path, waveform, spoken[0]["sampling_rate"], provenance=note(spoken[0]))
    return len(waveform) / spoken[0]["sampling_rate"]


def _say_scaled(what: str, factor: float, scaled: str) -> None:
    say(f"bark-semantic: {what} peaks at {1 / factor:.2f}, above full scale; {scaled} is scaled by {factor:.2f}")


__all__ = ["write_file", "write_to_stdout"]
