import json
import zipfile

import numpy as np
import pytest
import torch

from hf_bark_semantic.bark.voice_prompt import (
    VoicePrompt,
    VoicePromptError,
    join_prompts,
)
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames


def make_prompt(num_tokens=300, seed=0):
    rng = np.random.default_rng(seed)
    return VoicePrompt(rng.integers(0, 10_000, num_tokens), rng.integers(0, 1_024, (8, num_codec_frames(num_tokens))))


def test_a_prompt_is_checked_int64_and_cannot_be_changed():
    tokens = np.arange(300, dtype=np.int16)
    prompt = VoicePrompt(tokens, torch.zeros(8, 450, dtype=torch.int32))
    tokens[0] = 77
    assert prompt.semantic_tokens.dtype == prompt.audio_codes.dtype == np.int64
    assert prompt.semantic_tokens[0] == 0
    assert prompt.coarse.shape == (2, 450)
    assert prompt.duration_s == 6.0
    with pytest.raises(ValueError, match="read-only"):
        prompt.semantic_tokens[0] = 1


@pytest.mark.parametrize("num_frames", [449, 451])
def test_prompt_rejects_codes_of_another_length(num_frames):
    with pytest.raises(VoicePromptError, match="450.*from_tokens_and_codes"):
        VoicePrompt(np.zeros(300, int), np.zeros((8, num_frames), int))


def test_a_model_with_smaller_vocabularies_has_prompts_too():
    tokens, codes = np.full(300, 99), np.full((8, 450), 63)
    prompt = VoicePrompt(tokens, codes, semantic_vocab_size=100, codebook_size=64)
    assert prompt.tail(10).semantic_vocab_size == 100
    with pytest.raises(VoicePromptError, match=r"\[0, 50\)"):
        VoicePrompt(tokens, codes, semantic_vocab_size=50)


def test_saving_and_loading_give_the_prompt_back(tmp_path):
    prompt = make_prompt()
    assert VoicePrompt.load(prompt.save(tmp_path / "voice.npz")) == prompt
    assert VoicePrompt.load(prompt.to_dict()) == prompt
    assert VoicePrompt.load(prompt.to_dict("pt")) == prompt
    assert [file.name for file in tmp_path.iterdir()] == ["voice.npz"]


def nano_prompt(num_tokens=170):
    rng = np.random.default_rng(0)
    tokens, codes = rng.integers(0, 500, num_tokens), rng.integers(0, 1_024, (8, num_codec_frames(num_tokens)))
    return VoicePrompt(tokens, codes, semantic_vocab_size=500)


def test_a_file_says_which_bark_it_belongs_to(tmp_path):
    small = VoicePrompt(np.zeros(60, int), np.zeros((8, 90), int), semantic_vocab_size=50, codebook_size=64)
    loaded = VoicePrompt.load(small.save(tmp_path / "small.npz"))
    assert loaded.vocabularies == {"semantic_vocab_size": 50, "codebook_size": 64}
    with pytest.raises(VoicePromptError, match="small.npz' is for another Bark: for a Bark of 50 .* this is Suno's"):
        VoicePrompt.load(tmp_path / "small.npz", semantic_vocab_size=10_000)


@pytest.mark.parametrize(("prompt", "other"), [(nano_prompt(), 10_000), (make_prompt(), 500)])
def test_a_file_without_a_word_belongs_to_the_bark_of_its_ids(tmp_path, prompt, other):
    np.savez(tmp_path / "voice.npz", **prompt.to_dict())
    assert VoicePrompt.load(tmp_path / "voice.npz").vocabularies == prompt.vocabularies
    with pytest.raises(
        VoicePromptError, match="for another Bark: for (nano, and this is Suno's|Suno's Bark, and this is nano)"
    ):
        VoicePrompt.load(tmp_path / "voice.npz", semantic_vocab_size=other)


def test_prompts_are_given_to_their_own_bark_alone():
    sizes = [nano_prompt().vocabularies, make_prompt().vocabularies]
    assert nano_prompt().for_bark(**sizes[0]) == nano_prompt()
    with pytest.raises(VoicePromptError, match="for nano, and this is Suno's"):
        nano_prompt().for_bark(**sizes[1])
    with pytest.raises(VoicePromptError, match="for Suno's Bark, and this is nano"):
        make_prompt().for_bark(**sizes[0])


@pytest.mark.parametrize(
    "comment", [b"made by me", b"[" * 60_000, b'{"semantic_vocab_size": "1", "codebook_size": 2}']
)
def test_comments_of_other_programs_are_overlooked(tmp_path, comment):
    file = make_prompt().save(tmp_path / "voice.npz")
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = comment
    assert VoicePrompt.load(file) == make_prompt()


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_every_integer_type_that_exists_in_public_loads(tmp_path, dtype):
    prompt = make_prompt()
    np.savez(tmp_path / "voice.npz", **{key: value.astype(dtype) for key, value in prompt.to_dict().items()})
    assert VoicePrompt.load(tmp_path / "voice.npz") == prompt


def test_a_batch_axis_fortran_order_and_compression_load(tmp_path):
    prompt = make_prompt()
    arrays = {key: np.asfortranarray(value)[None] for key, value in prompt.to_dict().items()}
    np.savez_compressed(tmp_path / "voice.npz", **arrays)
    assert VoicePrompt.load(tmp_path / "voice.npz") == prompt


def test_other_entries_are_ignored_even_pickled_ones(tmp_path):
    prompt = make_prompt()
    np.savez(tmp_path / "voice.npz", **prompt.to_dict(), metadata=np.array({"name": "x"}, dtype=object))
    with zipfile.ZipFile(tmp_path / "voice.npz", "a") as archive:
        archive.writestr("../../escaped.txt", "never extracted")
    assert VoicePrompt.load(tmp_path / "voice.npz") == prompt


def test_trimming_drops_the_ends_that_do_not_belong_together():
    rng = np.random.default_rng(0)
    tokens, codes = rng.integers(0, 10_000, 300), rng.integers(0, 1_024, (8, 455))
    for num_tokens, num_frames, expected in [(300, 455, 300), (300, 450, 300), (300, 449, 299), (300, 445, 296)]:
        prompt = VoicePrompt.from_tokens_and_codes(tokens[:num_tokens], codes[:, :num_frames])
        assert prompt.num_tokens == expected
        assert prompt.num_frames == num_codec_frames(expected) <= num_frames
        np.testing.assert_array_equal(prompt.semantic_tokens, tokens[:expected])
        np.testing.assert_array_equal(prompt.audio_codes, codes[:, : prompt.num_frames])


def test_trimming_refuses_two_utterances():
    with pytest.raises(VoicePromptError, match="not one utterance"):
        VoicePrompt.from_tokens_and_codes(np.zeros(300, int), np.zeros((8, 440), int))


def test_a_file_with_a_frame_too_many_loads_only_when_asked_to_trim(tmp_path):
    fine = np.zeros((8, 451), np.int64)
    np.savez(tmp_path / "v.npz", semantic_prompt=np.zeros(300, np.int64), coarse_prompt=fine[:2], fine_prompt=fine)
    with pytest.raises(VoicePromptError, match="trim=True"):
        VoicePrompt.load(tmp_path / "v.npz")
    assert VoicePrompt.load(tmp_path / "v.npz", trim=True).num_frames == 450


@pytest.mark.parametrize("num_tokens", [1, 2, 83, 84, 85, 299, 300, 1_000])
def test_the_tail_of_a_prompt_is_its_end_and_a_prompt(num_tokens):
    prompt = make_prompt()
    tail = prompt.tail(num_tokens)
    assert tail.num_tokens == min(num_tokens, 300)
    np.testing.assert_array_equal(tail.semantic_tokens, prompt.semantic_tokens[-num_tokens:])
    np.testing.assert_array_equal(tail.audio_codes, prompt.audio_codes[:, -tail.num_frames :])


# --- what Bark reads


def test_transformers_processor_takes_the_dict_and_the_file(tmp_path):
    from transformers import BarkProcessor, BertTokenizer

    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello"]))
    processor = BarkProcessor(BertTokenizer(str(vocab)))
    prompt = make_prompt()
    for preset in (prompt.to_dict(), str(prompt.save(tmp_path / "voice.npz"))):
        history = processor("hello", voice_preset=preset)["history_prompt"]
        for key, tensor in prompt.to_dict("pt").items():
            assert history[key].dtype == torch.int64
            assert torch.equal(history[key], tensor)
        assert VoicePrompt.load(history) == prompt


# --- choosing and joining


@pytest.mark.parametrize(
    "lengths", [(1,), (1, 1), (50, 60, 70), (113, 114, 113), (7,) * 40, (400, 30, 30), (500, 500)]
)
def test_joined_prompts_keep_the_length_rule_and_lose_a_token_each_at_most(lengths):
    clips = [make_prompt(length, seed) for seed, length in enumerate(lengths)]
    joined = join_prompts(clips)
    assert joined.num_frames == num_codec_frames(joined.num_tokens)
    assert min(sum(lengths), 341) - 2 * len(lengths) < joined.num_tokens <= min(sum(lengths), 341)


def test_joined_clips_stay_aligned_with_their_codes():
    clips = [make_prompt(length, seed) for seed, length in enumerate([50, 61, 72, 83])]
    joined = join_prompts(clips)
    token, frame = 0, 0
    for clip in clips:
        assert abs(token / 49.9 - frame / 75) < 1 / 75
        kept = 0
        while (
            kept < clip.num_tokens
            and token + kept < joined.num_tokens
            and joined.semantic_tokens[token + kept] == clip.semantic_tokens[kept]
        ):
            kept += 1
        assert clip.num_tokens - kept <= 1
        frames = num_codec_frames(token + kept) - frame
        np.testing.assert_array_equal(joined.audio_codes[:, frame : frame + frames], clip.audio_codes[:, :frames])
        token, frame = token + kept, frame + frames
    assert (token, frame) == (joined.num_tokens, joined.num_frames)


def test_long_clips_share_the_length_and_short_ones_stay_whole():
    joined = join_prompts([make_prompt(500, 0), make_prompt(40, 1), make_prompt(500, 2)], max_tokens=240)
    np.testing.assert_array_equal(joined.semantic_tokens[:99], make_prompt(500, 0).semantic_tokens[-100:][:99])
    assert set(make_prompt(40, 1).semantic_tokens[:39]) <= set(joined.semantic_tokens)
    assert 237 <= joined.num_tokens <= 240


def test_clips_of_different_models_are_not_joined():
    small = VoicePrompt(np.zeros(10, int), np.zeros((8, 15), int), semantic_vocab_size=100)
    with pytest.raises(VoicePromptError, match="different models"):
        join_prompts([small, make_prompt(10)])
    with pytest.raises(VoicePromptError, match="at least one"):
        join_prompts([])


# --- real prompts


def test_all_305_public_prompts_are_valid_without_trimming(real_data):
    with np.load(real_data / "bark_prompts.npz") as archive:
        prompts = [VoicePrompt(archive[f"semantic_{i}"], archive[f"fine_{i}"]) for i in range(len(archive["names"]))]
    assert len(prompts) == 305
    assert all(VoicePrompt.load(prompt.to_dict()).semantic_vocab_size == 10_000 for prompt in prompts)
    assert sum(prompt.num_tokens for prompt in prompts) == 122_027


def test_all_real_pairs_load_or_lack_the_fine_codes(real_data):
    pairs = json.loads((real_data / "bark_pairs" / "manifest.json").read_text())
    assert {pair["has_fine"] for pair in pairs} == {False, True}
    for pair in pairs:
        path = real_data / "bark_pairs" / f"{pair['name']}.npz"
        if pair["has_fine"]:
            assert VoicePrompt.load(path).num_tokens == pair["num_tokens"]
        else:
            with pytest.raises(VoicePromptError, match="fine model"):
                VoicePrompt.load(path)


def test_the_old_names_of_the_entries_are_read(tmp_path):
    prompt = make_prompt()
    old = {"text": prompt.semantic_tokens, "coarse_1": prompt.coarse[0], "coarse_2": prompt.coarse[1]}
    np.savez(tmp_path / "old.npz", **old, fine=prompt.audio_codes.astype(np.int16))
    assert VoicePrompt.load(tmp_path / "old.npz") == prompt
    np.savez(tmp_path / "broken.npz", **{**old, "coarse_2": prompt.coarse[1, :-1]}, fine=prompt.audio_codes)
    with pytest.raises(VoicePromptError, match="equally long"):
        VoicePrompt.load(tmp_path / "broken.npz")
