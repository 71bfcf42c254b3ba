"""Bark's input layout is that of transformers, and the lengths match."""

from types import SimpleNamespace

import numpy as np
import pytest
from transformers import GenerationConfig
from transformers.models.bark.generation_configuration_bark import BarkGenerationConfig
from transformers.models.bark.modeling_bark import BarkCoarseModel

from hf_bark_semantic import VoicePrompt
from hf_bark_semantic.bark.configs import HistoryLengths, bark_generation_configs, with_coarse_window
from hf_bark_semantic.bark.prompting import (
    coarse_codes,
    coarse_columns,
    coarse_history,
    coarse_ids,
    coarse_window,
    fits_one_generation,
    join_clips,
    longest_generation,
    longest_piece_s,
    num_fine_windows,
    semantic_columns,
    text_prefix,
    text_to_ids,
)
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames
from hf_bark_semantic.voices.window import prompt_report
from tiny import tiny_bark, tiny_bark_processor

PARTS = ("semantic_config", "coarse_acoustics_config", "fine_acoustics_config", "codebook_size")
DEFAULTS = {name: BarkGenerationConfig().to_dict()[name] for name in PARTS}
SUNO = bark_generation_configs(GenerationConfig(**DEFAULTS))


def make_voice(num_tokens: int, seed: int = 0) -> VoicePrompt:
    rng = np.random.default_rng(seed)
    return VoicePrompt(rng.integers(0, 10_000, num_tokens), rng.integers(0, 1_024, (8, num_codec_frames(num_tokens))))


def test_coarse_history_is_what_transformers_keeps():
    starts_wrong = []
    for num_tokens in range(1, 600):
        voice = make_voice(num_tokens)
        semantic, coarse = BarkCoarseModel.preprocess_histories(
            SimpleNamespace(device="cpu"),
            max_coarse_history=SUNO.coarse.max_coarse_history,
            semantic_to_coarse_ratio=75 / 49.9 * 2,
            batch_size=1,
            semantic_generation_config=SUNO.semantic,
            codebook_size=SUNO.codebook_size,
            history_prompt=voice.to_dict("pt"),
        )
        tokens, ids = coarse_history(voice, SUNO)
        np.testing.assert_array_equal(tokens, semantic[0])
        np.testing.assert_array_equal(ids, coarse[0])
        starts_right = len(ids) == 0 or ids[0] < 11_024
        assert prompt_report(voice).starts_on_right_codebook == starts_right
        if not starts_right:
            starts_wrong.append(num_tokens)
    assert starts_wrong == sorted([*range(2, 85, 2), *range(85, 210, 2)])


def test_one_number_says_how_many_tokens_belong_to_the_coarse_history():
    assert SUNO.history_lengths == HistoryLengths()
    assert HistoryLengths().coarse_tokens == 209


def test_text_and_voice_share_the_first_positions():
    text, history = text_prefix([3, 1], make_voice(300), SUNO)
    assert text[:3].tolist() == [10_051, 10_049, 129_595] and (text[2:] == 129_595).all()
    np.testing.assert_array_equal(history, make_voice(300).semantic_tokens[-256:])
    text, history = text_prefix([], make_voice(10), SUNO)
    assert (text == 129_595).all() and (history[10:] == 10_000).all()
    with pytest.raises(ValueError, match="257 ids; Bark reads 256"):
        text_prefix([0] * 257, None, SUNO)


def test_text_ids_have_no_special_tokens():
    def tokenizer(text, add_special_tokens=True):
        return {"input_ids": [101] * add_special_tokens + [len(word) for word in text.split()]}

    assert text_to_ids("a bc def", tokenizer).tolist() == [1, 2, 3]
    assert text_to_ids("", SimpleNamespace(tokenizer=tokenizer)).dtype == np.int64


def test_half_of_a_surrogate_pair_is_refused_with_its_place():
    with pytest.raises(ValueError, match="character 5, which is half"):
        text_to_ids("the \ud83d", tiny_bark_processor().tokenizer)


def test_the_text_stage_may_say_semantic_tokens_and_the_end():
    assert semantic_columns(SUNO) == slice(0, 10_001)
    apart = bark_generation_configs(GenerationConfig(**DEFAULTS | {"semantic_config": {"eos_token_id": 10_040}}))
    assert semantic_columns(apart).tolist() == [*range(10_000), 10_040]


def test_coarse_ids_and_codes_are_inverse():
    codes = make_voice(100).audio_codes
    ids = coarse_ids(codes, SUNO)
    assert ids[:2].tolist() == [codes[0, 0] + 10_000, codes[1, 0] + 11_024]
    assert coarse_columns(SUNO) == [slice(10_000, 11_024), slice(11_024, 12_048)]
    np.testing.assert_array_equal(coarse_codes(ids, SUNO), codes[:2])


def test_the_coarse_window_slides_with_what_was_generated():
    assert coarse_window(0, 0, 0, SUNO) == (0, 0)
    assert coarse_window(209, 626, 60, SUNO) == (20, 56)
    steps = np.arange(0, 2_000, 60)
    tokens, ids = coarse_window(100, 299, steps, SUNO)
    assert list(zip(tokens, ids, strict=True)) == [coarse_window(100, 299, int(step), SUNO) for step in steps]


@pytest.mark.parametrize(("num_frames", "windows"), [(1, 1), (1_024, 1), (1_025, 2), (1_536, 2), (1_537, 3)])
def test_fine_windows_advance_by_the_history(num_frames, windows):
    assert num_fine_windows(num_frames, SUNO) == windows


def test_a_generation_holds_the_end_too():
    assert longest_generation(SUNO, block_size=1_024) == 768
    assert longest_generation(SUNO, block_size=600) == 344
    assert longest_piece_s(SUNO, block_size=1_024) == 14.0
    assert longest_piece_s(SUNO, block_size=600) == pytest.approx(0.91 * 344 / 49.9)
    assert fits_one_generation(256, 767, SUNO)
    assert not fits_one_generation(257, 10, SUNO) and not fits_one_generation(1, 768, SUNO)


def test_joined_clips_have_as_many_frames_as_their_tokens_make():
    for seed in range(50):
        lengths = np.random.default_rng(seed).integers(1, 60, 5)
        clips = [make_voice(int(length), seed) for length in lengths]
        tokens, codes = join_clips(clips, num_codec_frames)
        assert codes.shape == (8, num_codec_frames(len(tokens)))
        assert sum(lengths) - len(lengths) < len(tokens) <= sum(lengths)
    clips[2] = SimpleNamespace(semantic_tokens=np.arange(7), audio_codes=None)
    assert join_clips(clips, num_codec_frames)[1] is None


@pytest.mark.parametrize(("length", "history"), [(60, 630), (138, 630), (140, 628), (300, 468)])
def test_a_longer_window_keeps_as_much_history_as_fits(length, history):
    config = with_coarse_window(tiny_bark(), length).coarse_acoustics_config
    assert (config["sliding_window_len"], config["max_coarse_history"]) == (length, history)


@pytest.mark.parametrize("length", [61, 500])
def test_a_window_that_does_not_fit_is_refused(length):
    with pytest.raises(ValueError, match=f"window of {length} ids does not fit"):
        with_coarse_window(tiny_bark(), length)
