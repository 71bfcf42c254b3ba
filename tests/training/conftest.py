"""Recordings and scorers for studies."""

import json
from pathlib import Path

import pytest

from buzzing_voices import RATE, VOICES, loudest_frequency, tone
from hf_bark_semantic import save_audio
from hf_bark_semantic.evaluation.voices import Scorers
from tiny import TINY_WORDS

SECONDS, CLIPS = 1.7, 15


@pytest.fixture
def voices(tmp_path) -> Path:
    """Fifteen clips of each voice, which all say the same texts; the first five texts are held out."""
    folder = tmp_path / "speech"
    for voice, hz in VOICES.items():
        (folder / voice).mkdir(parents=True)
        rows = []
        for number in range(CLIPS):
            text = " ".join(TINY_WORDS[number % 7 : number % 7 + 3 + number // 7])
            save_audio(folder / voice / f"{number}.wav", tone(hz, SECONDS, number), RATE)
            row = {"id": f"{voice}-{number}", "file": f"{voice}/{number}.wav", "text": text, "voice": voice}
            rows.append({**row, "seconds": SECONDS, "held_out_voice": True, "held_out_text": number < 5})
        (folder / f"{voice}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def scorers() -> Scorers:
    return Scorers(lambda waveform: "the dog", {"pitch": loudest_frequency}, lambda waveform: 3.0)
