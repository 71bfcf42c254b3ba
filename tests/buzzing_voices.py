"""Artificial voices, each a buzz of one pitch, and scorers that distinguish them."""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hf_bark_semantic import save_audio
from hf_bark_semantic.evaluation.voice_scores import Scorers

RATE = 24_000
VOICES = {"low": 110.0, "middle": 190.0, "high": 310.0}


def tone(hz: float, seconds: float, seed: int = 0) -> np.ndarray:
    """A buzz of this pitch that swells and fades."""
    times = np.arange(int(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * hz * k * times) / k for k in range(1, 12))
    noise = 0.01 * np.random.default_rng(seed).standard_normal(len(times))
    return (0.05 * buzz * (1 + np.sin(2 * np.pi * 3 * times)) + noise).astype(np.float32)


def loudest_frequency(waveform: np.ndarray) -> np.ndarray:
    """A speaker embedding for buzzes: where the lowest strong partial lies, one-hot on 20 Hz bins."""
    spectrum = np.abs(np.fft.rfft(waveform, 16_000))[:500]
    embedding = np.zeros(25)
    embedding[int(np.argmax(spectrum)) // 20] = 1
    return embedding


def save_voices(folder: Path, texts: Sequence[str], *, seconds: float, held_out: int) -> Path:
    """A clip of each text by each voice, as evaluations read them; the first texts are held out."""
    for voice, hz in VOICES.items():
        (folder / voice).mkdir(parents=True)
        rows = []
        for number, text in enumerate(texts):
            save_audio(folder / voice / f"{number}.wav", tone(hz, seconds, number), RATE)
            row = {"id": f"{voice}-{number}", "file": f"{voice}/{number}.wav", "text": text, "voice": voice}
            rows.append({**row, "seconds": seconds, "held_out_voice": True, "held_out_text": number < held_out})
        (folder / f"{voice}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def scripted(waveform: np.ndarray) -> str:
    """A transcript that depends on every sample."""
    return " ".join(["one", "two", "three", "four"][: zlib.crc32(np.round(waveform, 4).tobytes()) % 5])


class Counting:
    """Scorers that count how often they are called."""

    def __init__(self, transcribe=scripted):
        self.calls = {"transcribe": 0, "embed": 0, "mos": 0}
        mos = self.counted("mos", lambda waveform: 1 + 4 * float(np.abs(waveform).mean()))
        embedders = {"pitch": self.counted("embed", loudest_frequency)}
        self.scorers = Scorers(self.counted("transcribe", transcribe), embedders, mos)

    def counted(self, name, function):
        def call(waveform):
            self.calls[name] += 1
            return function(waveform)

        return call
