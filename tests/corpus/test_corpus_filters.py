"""Which utterances are kept, and why the others are not."""

import json

import numpy as np
import pytest
import torch

from hf_bark_semantic.audio import load_audio
from hf_bark_semantic.bark.synthesis import SynthesisRequest, SynthesisResult
from hf_bark_semantic.bark.voice_prompt import VoicePrompt, measure_sound
from hf_bark_semantic.corpus.filters import (
    Filters,
    SpeakerSimilarity,
    WordErrorRate,
    level_spread_db,
    measure,
    repeated_share,
)
from hf_bark_semantic.corpus.rows import MEASURES
from tiny import random_codes

TEXT = "This sentence takes about three seconds to say."  # 3.1 s


def speech(seconds: float = 3.1, seed: int = 0) -> np.ndarray:
    """Noise with syllables."""
    syllables = np.clip(np.sin(np.arange(round(seconds * 24_000)) * 2 * np.pi * 4 / 24_000), 0, 1)
    return (0.1 * syllables * np.random.default_rng(seed).standard_normal(len(syllables))).astype(np.float32)


def result(waveform=None, tokens=None, text=TEXT, finish_reason="eos", voice_prompt=None) -> SynthesisResult:
    waveform = speech() if waveform is None else waveform.astype(np.float32)
    tokens = np.random.default_rng(0).integers(0, 10_000, 155) if tokens is None else tokens
    request = SynthesisRequest(text=text, voice_prompt=voice_prompt)
    return SynthesisResult(tokens, random_codes(233), waveform, 24_000, finish_reason, request, 0)


QUIET = 1e-4 * np.random.default_rng(1).standard_normal(24_000 * 10)


@pytest.mark.parametrize(
    ("utterance", "failed"),
    [
        (result(), []),
        (result(finish_reason="length"), ["finished"]),
        (result(finish_reason="given"), []),
        (result(np.concatenate([speech(), QUIET]), text=TEXT * 4), ["max_silence_share"]),
        (result(QUIET[: 24_000 * 3]), ["max_silence_share", "min_level_spread_db"]),
        (result(np.clip(speech() * 30, -1, 1)), ["max_clipped_share"]),
        (result(tokens=np.arange(155) % 60), ["max_repeated_share"]),
        (result(text="Yes."), ["max_duration_ratio"]),
        (result(text=TEXT * 3), ["min_duration_ratio"]),
        (result(0.1 * np.random.default_rng(0).standard_normal(24_000 * 3)), ["min_level_spread_db"]),
    ],
)
def test_each_flaw_fails_its_filter(utterance, failed):
    measures = measure(utterance)
    assert set(measures) == set(MEASURES)
    assert Filters().failed(measures, utterance.finish_reason) == failed
    assert Filters.off().failed(measures, utterance.finish_reason) == []


def test_nothing_said_is_not_measured():
    assert measure(result(np.zeros(0), np.zeros(0, int), finish_reason="empty")) is None
    assert measure(result(np.zeros(24_000))) is None and measure(result(speech(0.05))) is None


def test_repetition_counts_groups_that_were_there_before():
    assert repeated_share(np.arange(100)) == 0 and repeated_share(np.arange(3)) == 0
    assert repeated_share(np.zeros(104, int)) == pytest.approx(100 / 101)
    assert repeated_share(np.tile(np.arange(10), 10)) == pytest.approx(87 / 97)


def test_limits_hold_for_the_judges_measures_too():
    measures = {"word_error_rate": 0.6, "speaker_similarity": 0.5, "silence_share": None}
    assert Filters().failed(measures, "eos") == ["max_word_error_rate", "min_speaker_similarity"]
    assert Filters(max_word_error_rate=0.6, min_speaker_similarity=0.5).failed(measures, "eos") == []


def test_the_word_judge_hears_against_the_text():
    heard = {"text": "this sentence takes about 5 seconds to say"}

    def transcribe(waveform):
        assert abs(len(waveform) - 3.1 * 16_000) < 2
        return heard["text"]

    judge = WordErrorRate(transcribe, "a stub")
    assert judge(result(), "en") == pytest.approx(1 / 8)
    assert judge(result(text="[laughs] WOMAN: This — ♪ SENTENCE takes about five seconds to say? ♪"), "en") == 0
    assert judge(result(text="[laughs]"), "en") is None
    heard["text"] = "あいうえ"
    assert judge(result(text="あいう。お"), "ja") == pytest.approx(1 / 4)
    english = WordErrorRate(transcribe, "a stub", languages=("en",))
    assert english(result(), "de") is None and english(result(), None) == 1.0


def test_the_voice_judge_hears_each_prompt_once():
    spoken = []

    def speak_codes(codes):
        spoken.append(codes.shape)
        return speech(seed=3)

    def embed(waveform):
        vector = np.array([waveform.std(), np.abs(waveform).mean()])
        return vector / np.linalg.norm(vector)

    judge = SpeakerSimilarity(embed, speak_codes, "two numbers")
    prompt = VoicePrompt(np.arange(40), random_codes(60))
    assert judge(result(), "en") is None
    assert judge(result(voice_prompt=prompt), "en") == pytest.approx(1.0, abs=0.01)
    assert judge(result(voice_prompt=prompt), "en") and spoken == [(8, 60)]


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
        said = result(waveform, tokens.astype(int), text=entry.get("text") or "x" * round(15 * len(waveform) / 24_000))
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
