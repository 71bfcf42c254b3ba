"""Invariants for all lengths, texts, batches and seeds, tested on random ones.

`pytest --hypothesis-profile long tests/test_invariants.py` tests many more.
"""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from hf_bark_semantic import BarkSemanticEncoderModel, BarkSemanticEncoderProcessor, VoicePrompt
from hf_bark_semantic.bark.adapter_bundle import load_adapters, save_adapters
from hf_bark_semantic.bark.adapters import add_adapters, lora_config, remove_adapters
from hf_bark_semantic.bark.configs import bark_stage
from hf_bark_semantic.bark.request import SynthesisRequest
from hf_bark_semantic.bark.synthesis import synthesize
from hf_bark_semantic.bark.voice_prompt import join_prompts
from hf_bark_semantic.configuration_bark_semantic import (
    HEAD_TYPES,
    num_codec_frames,
    num_samples_of_codec_frames,
    num_semantic_tokens,
    num_semantic_tokens_of_samples,
    token_frames,
)
from hf_bark_semantic.corpus.rows import read_corpus
from hf_bark_semantic.modeling_bark_semantic import plan_windows
from hf_bark_semantic.voices.splitting import estimate_duration_s, split_text
from tiny import BACKBONES, corpus_row, noise, random_codes, tiny_bark, tiny_bark_processor, tiny_encoder

HOUR = 49.9 * 3_600  # tokens
LENGTHS = st.integers(1, int(24 * HOUR))
SEEDS = st.integers(0, 2**31)
RATES = st.sampled_from([8_000, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000])
processor = BarkSemanticEncoderProcessor()


@cache
def encoder(backbone: str | None = "hubert", head_type: str = "linear", **config) -> BarkSemanticEncoderModel:
    return tiny_encoder(backbone, head_type=head_type, **config)


# --- lengths and times


@given(LENGTHS)
def test_tokens_and_frames_count_each_other(num_tokens):
    num_frames = num_codec_frames(num_tokens)
    assert num_frames == num_tokens * 750 // 499
    assert num_semantic_tokens(num_frames) == num_tokens
    assert num_codec_frames(num_tokens + 1) > num_frames


@given(LENGTHS, RATES)
def test_a_waveform_of_a_rate_has_the_tokens_that_made_it(num_tokens, sampling_rate):
    num_samples = num_samples_of_codec_frames(num_codec_frames(num_tokens), sampling_rate)
    assert num_semantic_tokens_of_samples(num_samples, sampling_rate) == num_tokens
    assert num_semantic_tokens_of_samples(num_samples + 1, sampling_rate) == num_tokens  # of a resampler


@given(LENGTHS)
def test_a_token_is_read_at_its_own_time(token):
    frame = token_frames(token)
    assert frame / 50 <= (token + 0.5) / 49.9 + 1e-9 and (token + 0.5) / 49.9 < (frame + 1) / 50 + 1e-9
    assert token_frames(torch.tensor([token])).tolist() == [frame]


@given(st.integers(1, 20_000), st.floats(1.0, 20.0), st.floats(0.0, 0.4))
def test_windows_keep_every_token_once_and_hold_what_they_keep(num_tokens, window_s, overlap):
    config = encoder().config.__class__(**{**encoder().config.to_dict(), "window_s": window_s, "overlap_s": 0.0})
    config.overlap_s = overlap * (window_s - 0.5)
    windows = plan_windows(num_tokens, config)
    assert [token for window in windows for token in range(window.keep_from, window.keep_to)] == [*range(num_tokens)]
    assert all(w.first_token <= w.keep_from < w.keep_to <= w.first_token + w.num_tokens for w in windows)


# --- company, windows


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backbone", BACKBONES)
@given(st.lists(st.integers(1_600, 20_000), min_size=2, max_size=4), SEEDS)
def test_a_recording_has_its_own_probabilities_in_any_batch(backbone, dtype, lengths, seed):
    assert_own_probabilities(encoder(backbone, "transformer", conv_kernel_size=3), dtype, lengths, seed)


@pytest.mark.parametrize("head", HEAD_TYPES)
@given(st.lists(st.integers(1_600, 20_000), min_size=2, max_size=4), SEEDS)
def test_every_head_gives_a_recording_its_own_probabilities(head, lengths, seed):
    assert_own_probabilities(encoder("hubert", head), torch.float32, lengths, seed)


def assert_own_probabilities(model, dtype, lengths, seed):
    waveforms = [noise(length / 16_000, seed + i) for i, length in enumerate(lengths)]
    tolerance = {torch.float32: 1e-4, torch.bfloat16: 0.05}[dtype]
    try:
        model.to(dtype)
        batch = model.encode(**processor(waveforms))
        for row, waveform in enumerate(waveforms):
            alone = model.encode(**processor(waveform))
            n = int(alone.num_tokens[0])
            assert n == int(batch.num_tokens[row]) == num_semantic_tokens_of_samples(len(waveform))
            confidence = batch.confidence[row, :n].float()
            torch.testing.assert_close(confidence, alone.confidence[0].float(), atol=tolerance, rtol=tolerance)
    finally:
        model.float()


@given(st.integers(200, 3_000), st.floats(3.0, 8.0), st.floats(1.0, 2.0), SEEDS)
def test_codes_in_windows_equal_one_pass(num_frames, window_s, overlap_s, seed):
    """An overlap of a second is more than two convolutions over five frames see."""
    model = encoder(None, codec_hidden_size=16, codec_num_layers=2, window_s=60.0)
    codes = random_codes(num_frames, seed)
    one_pass = model.encode(**processor(audio_codes=codes))
    in_windows = encoder(None, codec_hidden_size=16, codec_num_layers=2, window_s=window_s, overlap_s=overlap_s)
    windows = in_windows.encode(**processor(audio_codes=codes))
    torch.testing.assert_close(windows.confidence, one_pass.confidence)


# --- saving and loading


@given(st.lists(st.integers(0, 9_999), min_size=1, max_size=800), SEEDS)
def test_a_saved_prompt_is_the_prompt(tokens, seed):
    prompt = VoicePrompt(tokens, random_codes(num_codec_frames(len(tokens)), seed), semantic_vocab_size=10_000)
    with tempfile.TemporaryDirectory() as folder:
        loaded = VoicePrompt.load(prompt.save(Path(folder) / "voice.npz"))
    assert loaded == prompt and loaded.vocabularies == prompt.vocabularies


@given(st.integers(1, 5_000), st.booleans())
def test_a_saved_processor_is_the_processor(codebook_size, do_normalize):
    saved = BarkSemanticEncoderProcessor(codebook_size=codebook_size)
    saved.feature_extractor.do_normalize = do_normalize
    with tempfile.TemporaryDirectory() as folder:
        saved.save_pretrained(folder)
        assert BarkSemanticEncoderProcessor.from_pretrained(folder).to_dict() == saved.to_dict()


@given(st.sampled_from(HEAD_TYPES), st.sampled_from(["hubert", "whisper", None]), st.sampled_from([0, 8]))
def test_a_saved_encoder_is_the_encoder(head_type, backbone, codec_hidden_size):
    codec_hidden_size = codec_hidden_size if backbone else 8
    saved = tiny_encoder(backbone, head_type=head_type, codec_hidden_size=codec_hidden_size)
    with tempfile.TemporaryDirectory() as folder:
        saved.save_pretrained(folder)
        loaded = BarkSemanticEncoderModel.from_pretrained(folder)
    there, here = saved.state_dict(), loaded.state_dict()
    assert there.keys() == here.keys() and all(torch.equal(there[name], here[name]) for name in there)
    ignored = {"_name_or_path", "architectures", "dtype", "transformers_version"}
    assert without(loaded.config.to_dict(), ignored) == without(saved.config.to_dict(), ignored)


def without(values, ignored):
    if not isinstance(values, dict):
        return values
    return {name: without(value, ignored) for name, value in values.items() if name not in ignored}


@given(st.sets(st.sampled_from(["semantic", "coarse", "fine"]), min_size=1), st.integers(1, 4), SEEDS)
def test_a_saved_adapter_is_the_adapter(stages, rank, seed):
    bark = tiny_bark()
    add_adapters(bark, {stage: lora_config(rank=rank) for stage in sorted(stages)}, name="voice")
    torch.manual_seed(seed)
    for weight in adapter_weights(bark, stages).values():
        weight.data.normal_()
    there = {name: weight.clone() for name, weight in adapter_weights(bark, stages).items()}
    with tempfile.TemporaryDirectory() as folder:
        save_adapters(bark, folder, name="voice", base_model="tiny")
        remove_adapters(bark, "voice")
        load_adapters(bark, folder, name="voice")
    here = adapter_weights(bark, stages)
    assert there.keys() == here.keys() and all(torch.equal(there[name], here[name]) for name in there)


def adapter_weights(bark, stages) -> dict[str, torch.Tensor]:
    named = ((stage, bark_stage(bark, stage).named_parameters()) for stage in sorted(stages))
    return {f"{stage} {name}": weight for stage, found in named for name, weight in found if ".voice." in name}


@given(st.lists(st.integers(1, 300), min_size=1, max_size=4), st.text(min_size=1), SEEDS)
def test_a_saved_corpus_is_the_corpus(lengths, text, seed):
    text = text.encode("utf-8", "ignore").decode()
    rows = [corpus_row(seed + i, n, with_audio=bool(i % 2), text=text) for i, n in enumerate(lengths)]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "data").mkdir()
        Dataset.from_list(rows).data.table.to_pandas().to_parquet(Path(folder, "data", "train-00000.parquet"))
        clips = list(read_corpus(folder))
    assert [clip.text for clip in clips] == [text] * len(rows)
    for row, clip in zip(rows, clips, strict=True):
        assert clip.semantic_tokens.tolist() == row["semantic_tokens"]
        assert clip.audio_codes.tolist() == row["audio_codes"]
        np.testing.assert_array_equal(row["audio"], [] if clip.waveform is None else clip.waveform)


# --- alignment


def prompt_that_counts(num_tokens: int, first: int) -> VoicePrompt:
    """Token i and its frames say when they are: i, and the token that sounds then."""
    tokens = first + np.arange(num_tokens)
    frames = np.arange(num_codec_frames(num_tokens))
    codes = np.tile(first + frames * 499 // 750, (8, 1))
    return VoicePrompt(tokens, codes, semantic_vocab_size=100_000, codebook_size=100_000)


@given(st.integers(1, 2_000), st.integers(1, 2_000))
def test_the_end_of_a_prompt_keeps_tokens_and_codes_together(num_tokens, num_kept):
    tail = prompt_that_counts(num_tokens, 0).tail(num_kept)
    assert tail.num_tokens == min(num_tokens, num_kept)
    assert_aligned(tail)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_joined_prompts_keep_tokens_and_codes_together(lengths):
    assert_aligned(join_prompts([prompt_that_counts(length, 10_000 * i) for i, length in enumerate(lengths)]))


def assert_aligned(prompt: VoicePrompt) -> None:
    """A frame is of the token that sounds at its time, or of one beside it: it lasts two thirds of a token."""
    times = np.arange(prompt.num_frames) * 499 // 750
    near = [prompt.semantic_tokens[np.clip(times + step, 0, prompt.num_tokens - 1)] for step in (-1, 0, 1)]
    assert np.abs(np.stack(near) - prompt.audio_codes[0]).min(0).max() <= 1


# --- texts

WORDS = ["MAN:", "WOMAN:", "[MAN]", "♪", "[laughs]", "Dr.", "well...", "the dog", "\n\n", "犬。", "م؟"]
TEXTS = st.one_of(
    st.text(),  # of any Unicode, lone surrogates too
    st.text("ab .,!?;:…。、-—\n\t♪[]()\"'\u0301\u200d\u202e\u05d0👩", max_size=300),
    st.lists(
        st.sampled_from(
            ["MAN:", "WOMAN:", "[MAN]", "♪", "[laughs]", "Dr.", "well...", "the dog", "\n\n", "犬。", "م؟"]
        )
    ).map(" ".join),
).filter(str.strip)


@given(TEXTS, st.floats(0.1, 14.0), st.booleans())
def test_no_character_of_a_text_is_lost(text, seconds, short_first):
    pieces = split_text(text, lambda piece: estimate_duration_s(piece) <= seconds, short_first=short_first)
    left = iter("".join("".join(pieces).split()))
    assert all(letter in left for letter in "".join(text.split()))  # in this order; marks may be repeated
    assert all(piece == " ".join(piece.split()) for piece in pieces)


@given(TEXTS, st.floats(0.1, 14.0))
def test_nothing_but_marks_is_added_to_a_text(text, seconds):
    pieces = split_text(text, lambda piece: estimate_duration_s(piece) <= seconds)
    marks = ("♪", "MAN:", "WOMAN:", "[MAN]", "[WOMAN]")
    if any(mark in text for mark in marks):
        return
    assert "".join("".join(pieces).split()) == "".join(text.split())


# --- seeds


@cache
def bark_and_tokenizer():
    return tiny_bark(max_new_tokens=12), tiny_bark_processor().tokenizer


@given(st.lists(st.tuples(SEEDS, st.sampled_from(["the dog", "a cat sleeps .", "one two"])), min_size=2, max_size=4),
       st.randoms(use_true_random=False), st.integers(1, 4), st.integers(1, 3))  # fmt: skip
def test_a_seed_says_the_same_in_any_batch_and_order(asked, random, batch_size, look_ahead):
    bark, tokenizer = bark_and_tokenizer()
    requests = [SynthesisRequest(text=text, seed=seed, max_semantic_tokens=8) for seed, text in asked]
    alone = [next(synthesize(bark, [request], tokenizer=tokenizer)) for request in requests]
    order = random.sample(range(len(requests)), len(requests))
    options = {"batch_size": batch_size, "look_ahead": look_ahead}
    together = synthesize(bark, [requests[i] for i in order], tokenizer=tokenizer, **options)
    for i, result in zip(order, together, strict=True):
        assert result.semantic_tokens.tolist() == alone[i].semantic_tokens.tolist()
        assert result.audio_codes.tolist() == alone[i].audio_codes.tolist()
