"""Long text in one voice: pieces, seeds, second attempts, rolling prompts and conversion, on a tiny Bark."""

import numpy as np
import pytest
import torch
from transformers import pipeline

from hf_bark_semantic.bark.request import SynthesisRequest, SynthesisResult, flaw_of
from hf_bark_semantic.bark.synthesis import synthesize
from hf_bark_semantic.bark.voice_prompt import VoicePrompt, VoicePromptError
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames
from hf_bark_semantic.pipelines.encoding import TASK
from hf_bark_semantic.voices import speaking as speech
from hf_bark_semantic.voices.speaking import (
    SpeechOptions,
    convert_speech,
    cut_at_quiet_moments,
    prompt_from_transcript,
    speak_text,
    speak_texts,
    speak_tokens,
    stream_conversion,
    stream_text,
)
from tiny import noise, random_codes, tiny_bark, tiny_bark_processor, tiny_encoder

LONG = "The dog runs to the house. A cat sleeps! One, two, three. The man laughs at the dog and the cat sleeps."
SIZES = {"semantic_vocab_size": 50, "codebook_size": 1024}


def voice(num_tokens: int = 60, seed: int = 0) -> VoicePrompt:
    tokens = np.random.default_rng(seed).integers(0, 50, num_tokens)
    return VoicePrompt(tokens, random_codes(num_codec_frames(num_tokens), seed), **SIZES)


@pytest.fixture(scope="module")
def bark():
    return tiny_bark()


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_bark_processor().tokenizer


@pytest.fixture
def stub(monkeypatch):
    """A `synthesize` that notes its calls and ends each text as planned in `reasons`."""
    calls, reasons = [], {}

    def plan(request):
        planned = reasons.get(request.text, [])
        return planned.pop(0) if planned else "eos"

    def synthesize(bark, requests, *, tokenizer, batch_size, on_step, retry):
        requests = list(requests)
        calls.append(requests)
        for index, request in enumerate(requests):
            reason = plan(request)
            if reason in ("length", "empty"):
                again = retry(index, request, reason)
                calls.append([again])
                request, reason = min((request, reason), (again, plan(again)), key=lambda attempt: flaw_of(attempt[1]))
            num_tokens = {"empty": 0, "length": 100}.get(reason, 60)
            if request.text is None:
                num_tokens = len(request.semantic_tokens)
            num_frames = num_codec_frames(num_tokens)
            waveform = np.full(num_frames * 320, request.seed % 7 + 1, np.float32)
            codes = random_codes(num_frames, request.seed % 1000)
            tokens = np.full(num_tokens, len(calls))
            yield SynthesisResult(tokens, codes, waveform, 24_000, reason, request, index)

    monkeypatch.setattr(speech, "synthesize", synthesize)
    return calls, reasons


def speak(bark, tokenizer, text=LONG, prompt=None, batch_size=8, **options) -> np.ndarray:
    prompt = prompt if prompt is not None or options.get("prompt_mode") == "none" else voice()
    options = SpeechOptions(**options)
    return speak_text(bark, text, prompt, tokenizer=tokenizer, options=options, batch_size=batch_size).waveform


# ---- text


def test_every_step_of_speaking_and_converting_is_announced(bark, tokenizer):
    steps = []
    speak_text(bark, LONG, voice(), tokenizer=tokenizer, on_step=steps.append)
    assert list(dict.fromkeys(steps)) == ["semantic", "coarse", "fine", "codec"]
    steps.clear()
    recording = {"array": noise(0.5, sampling_rate=24_000), "sampling_rate": 24_000}
    encoder = pipeline(TASK, model=tiny_encoder(), device="cpu")
    convert_speech(bark, recording, voice(), encoder=encoder, on_step=steps.append)
    assert list(dict.fromkeys(steps)) == ["encoder", "coarse", "fine", "codec"]


def test_short_text_is_exactly_what_synthesize_says(bark, tokenizer):
    request = SynthesisRequest(text="the dog runs", voice_prompt=voice(), seed=3)
    (expected,) = synthesize(bark, [request], tokenizer=tokenizer)
    audio = speak(bark, tokenizer, "the dog runs", seed=3)
    assert audio.dtype == np.float32
    assert np.array_equal(audio, expected.waveform)


def test_same_seed_same_speech_in_any_batch(bark, tokenizer):
    text = "The dog runs to the house. A cat sleeps!"
    first, again = speak(bark, tokenizer, text), speak(bark, tokenizer, text, batch_size=1)
    assert first.shape == again.shape
    assert np.allclose(first, again, atol=1e-5)
    other = speak(bark, tokenizer, text, seed=1)
    assert first.shape != other.shape or not np.allclose(first, other, atol=1e-5)


def test_streamed_speech_is_the_speech_bit_by_bit(bark, tokenizer):
    for options, batch_size in (({}, 2), ({"pause_s": 0.0}, 8), ({"long_form": "rolling"}, 8)):
        given = {"tokenizer": tokenizer, "options": SpeechOptions(**options), "batch_size": batch_size}
        pieces = list(stream_text(bark, LONG, voice(), **given))
        speech = speak_text(bark, LONG, voice(), **given)
        assert np.array_equal(np.concatenate([piece.waveform for piece in pieces]), speech.waveform)
        assert [(piece.number, piece.num_pieces) for piece in pieces] == [
            (n, len(pieces)) for n in range(1, len(pieces) + 1)
        ]
        assert [piece.result.request.text for piece in pieces] == [piece.request.text for piece in speech.pieces]


@pytest.mark.parametrize("long_form", ["fixed", "rolling"])
def test_texts_that_are_spoken_together_sound_as_each_does_alone(bark, tokenizer, long_form):
    texts = ["the dog runs", LONG, " ", "a cat", "one two three", "The dog. A cat sleeps!"]
    given = {"tokenizer": tokenizer, "options": SpeechOptions(long_form=long_form, seed=3), "batch_size": 4}
    together = list(speak_texts(bark, texts, voice(), **given))
    assert isinstance(together.pop(2), ValueError)
    for text, spoken in zip([text for text in texts if text.strip()], together, strict=True):
        alone = speak_text(bark, text, voice(), **given)
        assert [piece.semantic_tokens.tolist() for piece in spoken.pieces] == [
            piece.semantic_tokens.tolist() for piece in alone.pieces
        ]
        for piece, other in zip(spoken.pieces, alone.pieces, strict=True):
            assert np.array_equal(piece.audio_codes, other.audio_codes)
        assert np.allclose(spoken.waveform, alone.waveform, atol=1e-5)
        assert spoken.warnings == alone.warnings


def test_texts_fill_batches_and_one_that_fails_leaves_the_others_alone(bark, tokenizer, stub):
    calls, reasons = stub
    reasons["a cat"], reasons["the dog"] = ["empty", "empty"], ["length", "length"]
    texts = ["a cat", "the dog", "The man laughs at the dog. A cat sleeps!", "one", "two"]
    spoken = speak_texts(bark, texts, voice(), tokenizer=tokenizer, batch_size=3)
    silent, flawed = next(spoken), next(spoken)
    assert isinstance(silent, speech.NothingSaid) and "Bark said nothing for 'a cat', with 1 pieces" in str(silent)
    assert "did not finish piece 1 of 1 ('the dog') again" in flawed.warnings[0]
    assert [len(requests) for requests in calls] == [3, 1, 1]  # a second attempt for each of the two
    long, *_ = spoken
    assert [len(requests) for requests in calls[3:]] == [3]
    assert [piece.request.text for piece in long.pieces] == ["The man laughs at the dog.", "A cat sleeps!"]
    alone = speak_text(bark, texts[2], voice(), tokenizer=tokenizer)
    assert [piece.request.seed for piece in long.pieces] == [piece.request.seed for piece in alone.pieces]


def test_streamed_conversion_is_the_conversion_bit_by_bit(bark):
    waveform = noise(30.0, sampling_rate=24_000)
    waveform[round(7.5 * 24_000) : round(22.5 * 24_000)] = 0
    recording = {"array": waveform, "sampling_rate": 24_000}
    encoder = pipeline(TASK, model=tiny_encoder(), device="cpu")
    pieces = list(stream_conversion(bark, recording, voice(), encoder=encoder))
    speech = convert_speech(bark, recording, voice(), encoder=encoder)
    assert np.array_equal(np.concatenate([piece.waveform for piece in pieces]), speech.waveform)
    assert [piece.result is None for piece in pieces] == [False, True, True, False]
    assert {piece.num_pieces for piece in pieces} == {4}


def test_a_piece_is_given_before_the_next_is_computed(bark, tokenizer, stub):
    calls, _ = stub
    pieces = stream_text(bark, LONG, voice(), tokenizer=tokenizer, batch_size=2)
    assert not calls
    first = next(pieces)
    assert first.result.request.text == "The dog runs to the house."
    assert [len(requests) for requests in calls] == [1]
    next(pieces)
    assert [len(requests) for requests in calls] == [1, 2]


def test_flaws_are_told_with_their_piece(bark, tokenizer, stub):
    _, reasons = stub
    reasons["A cat sleeps!"] = ["empty", "empty"]
    text = "The dog runs to the house. A cat sleeps! One, two, three."
    _, second, third = stream_text(bark, text, voice(), tokenizer=tokenizer)
    assert not len(second.waveform) and not third.warnings
    assert "said nothing for piece 2 of 3 ('A cat sleeps!') again" in second.warnings[0]


def test_all_pieces_but_the_first_go_through_one_batch_with_the_same_voice(bark, tokenizer, stub):
    calls, _ = stub
    prompt = voice()
    sampling = {"coarse_temperature": 0.3, "min_eos_p": None, "guidance_scale": 2.0, "voice_guidance_scale": 3.0}
    audio = speak(bark, tokenizer, prompt=prompt, seed=5, pause_s=0.5, **sampling)
    first, others = calls
    requests = [*first, *others]
    assert len(first) == 1 and len(others) > 2
    assert "".join(request.text for request in requests).replace(" ", "") == LONG.replace(" ", "")
    assert all(request.voice_prompt is prompt and request.prompt_mode == "full" for request in requests)
    assert requests[0].seed == 5
    assert len({request.seed for request in requests}) == len(requests)
    assert {request.coarse.temperature for request in requests} == {0.3}
    assert {request.semantic.min_eos_p for request in requests} == {None}
    for stage in ("semantic", "coarse"):
        samplings = {getattr(request, stage) for request in requests}
        assert {(s.guidance_scale, s.voice_guidance_scale) for s in samplings} == {(2.0, 3.0)}
    piece = num_codec_frames(60) * 320
    assert len(audio) == len(requests) * piece + (len(requests) - 1) * 12_000
    assert not audio[piece : piece + 12_000].any()


def test_pieces_fit_what_this_bark_reads_and_says(tokenizer, stub):
    calls, _ = stub
    bark = tiny_bark(max_new_tokens=100)
    bark.generation_config.semantic_config["max_input_semantic_length"] = 4
    speak(bark, tokenizer)
    assert all(len(tokenizer(request.text)["input_ids"]) <= 4 for requests in calls for request in requests)


def test_piece_that_was_broken_off_is_spoken_again_with_another_seed(bark, tokenizer, stub, caplog):
    calls, reasons = stub
    reasons["A cat sleeps!"] = ["length", "eos"]
    speak(bark, tokenizer, "The dog runs to the house. A cat sleeps! One, two, three.", seed=2)
    _, others, again = calls
    assert [request.text for request in again] == ["A cat sleeps!"]
    assert again[0].seed != others[0].seed
    unknown, unfinished = caplog.messages
    assert 'Bark cannot read "to", "house."' in unknown
    assert "Bark did not finish piece 2 of 3 ('A cat sleeps!')" in unfinished


def test_words_that_are_missing_in_the_end_are_named(bark, tokenizer, stub, caplog):
    calls, reasons = stub
    reasons["A cat sleeps!"] = ["empty", "empty"]
    text = "The dog runs to the house. A cat sleeps! One, two, three."
    spoken = speak_text(bark, text, voice(), tokenizer=tokenizer)
    assert len(calls) == 3
    assert len(spoken.waveform) == 2 * num_codec_frames(60) * 320 + 3_600
    assert (spoken.sampling_rate, [piece.request.text for piece in spoken.pieces][1]) == (24_000, "A cat sleeps!")
    unknown, warning = spoken.warnings
    assert 'Bark cannot read "to", "house."' in unknown
    assert "said nothing for piece 2 of 3 ('A cat sleeps!') again, so words are missing" in warning
    assert caplog.messages[-1] == warning


def test_of_two_flawed_attempts_the_better_one_is_kept(bark, tokenizer, stub):
    _, reasons = stub
    reasons["A cat sleeps!"] = ["length", "empty"]
    assert len(speak(bark, tokenizer, "A cat sleeps!")) == num_codec_frames(100) * 320
    reasons["A cat sleeps!"] = ["empty", "length"]
    assert len(speak(bark, tokenizer, "A cat sleeps!")) == num_codec_frames(100) * 320


def test_silence_for_the_whole_text_is_an_error(bark, tokenizer, stub):
    _, reasons = stub
    reasons["A cat sleeps!"] = ["empty", "empty"]
    with pytest.raises(RuntimeError, match="said nothing for 'A cat sleeps!'.*another seed"):
        speak(bark, tokenizer, "A cat sleeps!")


def test_rolling_prompts_are_the_end_of_the_piece_before(bark, tokenizer, stub):
    calls, _ = stub
    prompt = voice(300)
    speak(bark, tokenizer, prompt=prompt, long_form="rolling")
    assert calls[0][0].voice_prompt is prompt
    assert len(calls) > 3
    for number, (request,) in enumerate(calls[1:], 1):
        history = request.voice_prompt
        assert (history.semantic_vocab_size, history.codebook_size) == (50, 1024)
        assert history.semantic_tokens[-59:].tolist() == [number] * 59  # call `number` said so; joining may cost one
        assert history.num_tokens > 210  # a short piece goes with the prompt before


def test_rolling_without_a_voice_keeps_the_voice_of_the_first_piece(bark, tokenizer, stub):
    calls, _ = stub
    speak(bark, tokenizer, prompt_mode="none", long_form="rolling")
    assert calls[0][0].voice_prompt is None
    assert all(request.voice_prompt is not None and request.prompt_mode == "full" for (request,) in calls[1:])


def test_rolling_speech_runs_on_a_bark_of_other_ids(bark, tokenizer):
    assert len(speak(bark, tokenizer, long_form="rolling")) > 0


def test_mode_without_prompt_ignores_the_voice(bark, tokenizer, stub):
    calls, _ = stub
    speak(bark, tokenizer, prompt=voice(), prompt_mode="none")
    assert all(request.voice_prompt is None for request in calls[0])
    with pytest.raises(VoicePromptError, match="needs a voice"):
        speak_text(bark, "the dog", None, tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_mode": "loud"}, "'full', 'acoustic', 'semantic', 'none'"),
        ({"long_form": "long"}, "'fixed', 'rolling'"),
        ({"seed": -1}, "0 or more"),
        ({"seed": 1.5}, "whole number"),
        ({"pause_s": -1}, "between 0 and 10"),
        ({"fine_temperature": -1}, "temperature"),
        ({"guidance_scale": 0.5}, "guidance_scale"),
        ({"min_eos_p": 2}, "min_eos_p"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        SpeechOptions(**options)


# ---- tokens and recordings


def test_tokens_are_spoken_as_given(bark, tokenizer):
    tokens = [np.arange(40), np.arange(20)]
    audio = speak_tokens(bark, tokens, voice(), options=SpeechOptions(seed=4)).waveform
    assert len(audio) == (num_codec_frames(40) + num_codec_frames(20)) * 320
    request = SynthesisRequest(semantic_tokens=tokens[0], voice_prompt=voice(), seed=4)
    (expected,) = synthesize(bark, [request], tokenizer=tokenizer)
    assert np.allclose(audio[: len(expected.waveform)], expected.waveform, atol=1e-5)


@pytest.mark.parametrize("backbone", ["hubert", None])
def test_converted_speech_is_as_long_as_the_recording(bark, backbone):
    encoder = pipeline(TASK, model=tiny_encoder(backbone, codec_hidden_size=16), device="cpu")
    recording = {"array": noise(3.0, sampling_rate=24_000), "sampling_rate": 24_000}
    audio = convert_speech(bark, recording, voice(), encoder=encoder).waveform
    assert abs(len(audio) / 24_000 - 3.0) < 0.05


@pytest.mark.parametrize("long_form", ["fixed", "rolling"])
@pytest.mark.parametrize("backbone", ["hubert", None])
@pytest.mark.parametrize(
    ("duration_s", "silence_s", "num_spoken"),
    [
        (14.3, (11.0, 14.3), 1),  # the last piece is nothing but silence
        (14.02, (0, 0), 1),  # the rest is shorter than what an encoder reads
        (30.0, (7.5, 22.5), 2),  # two pieces in the middle are silence
    ],
)
def test_conversion_keeps_silence_and_short_rests(bark, stub, duration_s, silence_s, num_spoken, backbone, long_form):
    calls, _ = stub
    encoder = pipeline(TASK, model=tiny_encoder(backbone, codec_hidden_size=16), device="cpu")
    waveform = noise(duration_s, sampling_rate=24_000)
    start, end = (round(second * 24_000) for second in silence_s)
    waveform[start:end] = 0
    recording, options = {"array": waveform, "sampling_rate": 24_000}, SpeechOptions(long_form=long_form)
    audio = convert_speech(bark, recording, voice(), encoder=encoder, options=options).waveform
    assert len(audio) / 24_000 == pytest.approx(duration_s, abs=0.03 * num_spoken)
    assert len([request for requests in calls for request in requests]) == num_spoken
    assert not audio[start + 2_400 : max(start, end - 36_000)].any()
    assert audio[: start - 2_400].all() and audio[end + 2_400 :].all()


def test_conversion_computes_no_codes_that_nobody_reads(bark, monkeypatch):
    encoder = pipeline(TASK, model=tiny_encoder(), device="cpu")
    monkeypatch.setattr(bark.codec_model, "encode", lambda *args, **kwargs: pytest.fail("the codec encodes"))
    recording = {"array": noise(1.0, sampling_rate=24_000), "sampling_rate": 24_000}
    assert len(convert_speech(bark, recording, voice(), encoder=encoder).waveform)


def test_long_recordings_are_cut_where_they_are_quiet():
    waveform = noise(10.0, sampling_rate=24_000)
    waveform[24_000 * 3 : 24_000 * 3 + 4_800] = 0
    waveform[24_000 * 6 : 24_000 * 6 + 4_800] = 0
    parts = cut_at_quiet_moments(waveform, 24_000, 4.0)
    assert np.array_equal(np.concatenate(parts), waveform)
    assert len(parts) == 3
    assert 3.0 < len(parts[0]) / 24_000 < 3.2
    assert 6.0 < len(parts[0]) / 24_000 + len(parts[1]) / 24_000 < 6.2
    assert [len(part) for part in cut_at_quiet_moments(waveform, 24_000, 10.0)] == [240_000]


# ---- a prompt of a transcript


def test_transcript_gives_tokens_that_belong_to_the_codes(bark, tokenizer):
    codes = random_codes(90)
    prompt = prompt_from_transcript(bark, "the dog runs", codes, tokenizer=tokenizer, options=SpeechOptions(seed=2))
    assert 1 <= prompt.num_tokens <= 60
    assert np.array_equal(prompt.audio_codes, codes[:, : prompt.num_frames])
    assert prompt.semantic_vocab_size == 50


def test_transcript_must_fit_into_one_reading(bark, tokenizer):
    with pytest.raises(ValueError, match="300 text tokens; Bark reads 1 to 256"):
        prompt_from_transcript(bark, "dog " * 300, random_codes(90), tokenizer=tokenizer)


def test_nothing_reaches_the_global_random_numbers(bark, tokenizer):
    state = torch.random.get_rng_state()
    speak(bark, tokenizer, "the dog")
    assert torch.equal(state, torch.random.get_rng_state())
