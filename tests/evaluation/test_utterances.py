"""Measures of single utterances: words against the text, and voice against the prompt."""

import numpy as np
import pytest

from hf_bark_semantic.bark.voice_prompt import VoicePrompt
from hf_bark_semantic.evaluation.utterances import SpeakerSimilarity, WordErrorRate
from stub_corpus import speech, utterance
from tiny import random_codes


def test_the_words_of_a_transcript_are_compared_with_the_text():
    transcript = {"text": "this sentence takes about 5 seconds to say"}

    def transcribe(waveform):
        assert abs(len(waveform) - 3.1 * 16_000) < 2
        return transcript["text"]

    judge = WordErrorRate(transcribe, "a stub")
    assert judge(utterance(), "en") == pytest.approx(1 / 8)
    assert judge(utterance(text="[laughs] WOMAN: This — ♪ SENTENCE takes about five seconds to say? ♪"), "en") == 0
    assert judge(utterance(text="[laughs]"), "en") is None
    transcript["text"] = "あいうえ"
    assert judge(utterance(text="あいう。お"), "ja") == pytest.approx(1 / 4)
    english = WordErrorRate(transcribe, "a stub", languages=("en",))
    assert english(utterance(), "de") is None and english(utterance(), None) == 1.0


def test_each_prompt_is_embedded_once():
    spoken = []

    def codes_to_waveform(codes):
        spoken.append(codes.shape)
        return speech(seed=3)

    def embed(waveform):
        vector = np.array([waveform.std(), np.abs(waveform).mean()])
        return vector / np.linalg.norm(vector)

    judge = SpeakerSimilarity(embed, codes_to_waveform, "two numbers")
    prompt = VoicePrompt(np.arange(40), random_codes(60))
    assert judge(utterance(), "en") is None
    assert judge(utterance(voice_prompt=prompt), "en") == pytest.approx(1.0, abs=0.01)
    assert judge(utterance(voice_prompt=prompt), "en") and spoken == [(8, 60)]
