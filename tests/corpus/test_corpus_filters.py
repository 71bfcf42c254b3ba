"""Filters: which utterances are kept, and the reasons for the others."""

import json

import numpy as np
import pytest
import torch

from hf_bark_semantic.audio import load_audio
from hf_bark_semantic.corpus.filters import (
    Filters,
    level_spread_db,
    measure,
    repeated_share,
)
from hf_bark_semantic.corpus.rows import MEASURES
from hf_bark_semantic.voices.window import measure_sound
from stub_corpus import TEXT, speech, utterance

QUIET = 1e-4 * np.random.default_rng(1).standard_normal(24_000 * 10)


@pytest.mark.parametrize(
    ("said", "failed"),
    [
        (utterance(), []),
        (utterance(finish_reason="length"), ["finished"]),
        (utterance(finish_reason="given"), []),
        (utterance(np.concatenate([speech(), QUIET]), text=TEXT * 4), ["max_silence_share"]),
        (utterance(QUIET[: 24_000 * 3]), ["max_silence_share", "min_level_spread_db"]),
        (utterance(np.clip(speech() * 30, -1, 1)), ["max_clipped_share"]),
        (utterance(tokens=np.arange(155) % 60), ["max_repeated_share"]),
        (utterance(text="Yes."), ["max_duration_ratio"]),
        (utterance(text=TEXT * 3), ["min_duration_ratio"]),
        (utterance(0.1 * np.random.default_rng(0).standard_normal(24_000 * 3)), ["min_level_spread_db"]),
    ],
)
def test_each_flaw_fails_its_filter(said, failed):
    measures = measure(said)
    assert set(measures) == set(MEASURES)
    assert Filters().failed(measures, said.finish_reason) == failed
    assert Filters.off().failed(measures, said.finish_reason) == []


def test_nothing_said_is_not_measured():
    assert measure(utterance(np.zeros(0), np.zeros(0, int), finish_reason="empty")) is None
    assert measure(utterance(np.zeros(24_000))) is None and measure(utterance(speech(0.05))) is None


def test_repetition_counts_groups_that_were_there_before():
    assert repeated_share(np.arange(100)) == 0 and repeated_share(np.arange(3)) == 0
    assert repeated_share(np.zeros(104, int)) == pytest.approx(100 / 101)
    assert repeated_share(np.tile(np.arange(10), 10)) == pytest.approx(87 / 97)


def test_limits_hold_for_the_judges_measures_too():
    measures = {"word_error_rate": 0.6, "speaker_similarity": 0.5, "silence_share": None}
    assert Filters().failed(measures, "eos") == ["max_word_error_rate", "min_speaker_similarity"]
    assert Filters(max_word_error_rate=0.6, min_speaker_similarity=0.5).failed(measures, "eos") == []


def test_the_limits_suit_real_bark_speech(real_data):
    """English speech of Bark passes what can be said of it without a text."""
    passed = {"speech": [], "not": []}
    other = (
        "rock_maybe",
        "sing1",
        "solo_singer",
        "reencode",
        "konichi",
        "20-46-12",
        "20-55-18",
        "20-56-42",
        "21-01-44",
    )
    for entry in json.loads((real_data / "bark_pairs" / "manifest.json").read_text()):
        waveform = load_audio(real_data / "bark_pairs" / entry["audio"], 24_000)
        tokens = np.load(real_data / "bark_pairs" / f"{entry['name']}.npz", allow_pickle=False)["semantic_prompt"]
        said = utterance(
            waveform, tokens.astype(int), text=entry.get("text") or "x" * round(15 * len(waveform) / 24_000)
        )
        kind = "not" if any(part in entry["name"] for part in other) else "speech"
        passed[kind].append(not Filters().failed(measure(said), "eos"))
    assert np.mean(passed["speech"]) > 0.85 and np.mean(passed["not"]) < 0.15


def test_measures_do_not_depend_on_the_rate():
    at_24k, at_16k = (
        speech(),
        torch.nn.functional.interpolate(torch.from_numpy(speech())[None, None], scale_factor=2 / 3),
    )
    assert level_spread_db(at_24k, 24_000) == pytest.approx(level_spread_db(at_16k[0, 0].numpy(), 16_000), abs=1.0)
    assert measure_sound(at_24k, 24_000).silence_share < 0.6
