"""Load the speech corpus of stage 1."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

SAMPLING_RATE = 24_000


@dataclass(frozen=True)
class Speech:
    id: str
    text: str
    voice: str
    held_out_voice: bool
    held_out_text: bool
    waveform: np.ndarray  # (num_samples,) int16, 24 kHz

    @property
    def held_out(self) -> bool:
        return self.held_out_voice or self.held_out_text

    def float_waveform(self) -> np.ndarray:
        return self.waveform.astype(np.float32) / 32768


def load_speech(
    folder: Path, held_out: bool | None = False, wanted: Callable[[dict], bool] = lambda row: True
) -> list[Speech]:
    """Clips of all finished voices in order of their ids: training clips, held-out clips, or with `None` all.

    Only clips with a `wanted` row are read, because the whole corpus takes gigabytes.
    """
    clips = []
    for table in sorted(folder.glob("*.jsonl")):
        for row in map(json.loads, table.read_text().splitlines()):
            of_kind = held_out is None or held_out == (row["held_out_voice"] or row["held_out_text"])
            if of_kind and wanted(row):
                waveform, _ = soundfile.read(folder / row["file"], dtype="int16")
                names = ("id", "text", "voice", "held_out_voice", "held_out_text")
                clips.append(Speech(*(row[name] for name in names), waveform))
    if not clips:
        raise FileNotFoundError(f"{folder} holds no such clip of a finished voice; run make_speech.py first.")
    return clips
