"""Recordings and scorers for studies."""

from pathlib import Path

import pytest

from buzzing_voices import loudest_frequency, save_voices
from hf_bark_semantic.evaluation.voice_scores import Scorers
from tiny import TINY_WORDS


@pytest.fixture
def voices(tmp_path) -> Path:
    """Fifteen clips of each voice, which all say the same texts; the first three texts are held out."""
    texts = [" ".join(TINY_WORDS[number % 7 : number % 7 + 3 + number // 7]) for number in range(15)]
    return save_voices(tmp_path / "speech", texts, seconds=1.7, held_out=3)


@pytest.fixture
def scorers() -> Scorers:
    return Scorers(lambda waveform: "the dog", {"pitch": loudest_frequency}, lambda waveform: 3.0)
