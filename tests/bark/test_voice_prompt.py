import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from hf_bark_semantic.audio import load_audio
from hf_bark_semantic.bark.configs import HistoryLengths
from hf_bark_semantic.bark.voice_prompt import (
    VoicePrompt,
    VoicePromptError,
    best_window,
    join_prompts,
    prompt_report,
)
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is absent")


def make_prompt(num_tokens=300, seed=0):
    rng = np.random.default_rng(seed)
    return VoicePrompt(rng.integers(0, 10_000, num_tokens), rng.integers(0, 1_024, (8, num_codec_frames(num_tokens))))


def noise(seconds, level=0.2, sampling_rate=16_000):
    return (level * np.random.default_rng(0).standard_normal(round(seconds * sampling_rate))).astype(np.float32)


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


def test_the_report_counts_what_each_stage_reads():
    report = prompt_report(make_prompt(400))
    assert report.num_semantic_tokens_read == 256
    assert report.num_coarse_tokens_read == 209
    assert report.num_fine_frames_read == 512
    assert report.starts_on_right_codebook
    assert "last 209 tokens" in str(report)
    assert any("have no effect" in warning for warning in report.warnings)


def test_the_report_counts_what_another_bark_reads():
    nano = HistoryLengths(semantic_tokens=160, coarse_ids=450, fine_frames=256)
    report = prompt_report(make_prompt(400), histories=nano)
    assert (report.num_semantic_tokens_read, report.num_coarse_tokens_read, report.num_fine_frames_read) == (
        160,
        149,
        256,
    )
    assert any("last 170 tokens" in warning for warning in report.warnings)
    assert prompt_report(make_prompt(160), histories=nano).warnings == ()
    assert nano.window_s == (pytest.approx(160 / 49.9), pytest.approx(256 / 75))
    sound = np.concatenate([0.001 * noise(4.5), noise(3.5)])
    assert prompt_report(make_prompt(400), sound, 16_000, histories=nano).sound.silence_share < 0.05


def test_a_prompt_of_good_length_has_nothing_to_improve():
    assert prompt_report(make_prompt(300)).warnings == ()
    assert "nothing to improve" in str(prompt_report(make_prompt(300)))


def test_the_report_of_a_short_prompt_names_the_length_that_starts_right():
    report = prompt_report(make_prompt(209))
    assert not report.starts_on_right_codebook
    assert "prompt.tail(208)" in str(report)
    assert prompt_report(make_prompt(209).tail(208)).starts_on_right_codebook


def test_the_report_hears_clipping_silence_and_a_cut_word():
    waveform = noise(6.0, level=0.8)
    clipped = prompt_report(make_prompt(300), np.clip(waveform, -1, 1), 16_000)
    assert "clipped" in " ".join(clipped.warnings)
    assert not clipped.sound.ends_at_pause
    assert "ends within a sound" in str(clipped)

    sparse = np.concatenate([noise(1.5), 0.001 * noise(4.5)])
    report = prompt_report(make_prompt(300), sparse, 16_000)
    assert report.sound.silence_share == pytest.approx(0.75, abs=0.02)
    assert report.sound.ends_at_pause
    assert "silence" in " ".join(report.warnings)


def test_the_report_notices_the_recording_of_another_prompt():
    assert any(
        "another recording" in warning for warning in prompt_report(make_prompt(300), noise(9.0), 16_000).warnings
    )


# --- choosing and joining


def test_the_best_window_avoids_silence_and_clipping_and_ends_at_a_pause():
    pause = 0.001 * noise(0.3)
    phrase = np.concatenate([noise(2.7), pause])
    clipped = np.sign(noise(9.0)).astype(np.float32)
    recording = np.concatenate([0.001 * noise(6.0), phrase, phrase, phrase, clipped])  # phrases fill 6 s to 15 s
    window = best_window(recording, 16_000)
    assert 5.9 <= window.start_s < window.end_s <= 15.02
    assert 5.1 <= window.end_s - window.start_s <= 6.84
    assert window.ends_at_pause
    assert window.clipped_share == 0
    assert (
        min(abs(window.end_s - end) for end in (9.0, 12.0, 15.0)) < 0.23
    )  # within a pause, of which 80 ms came before
    assert len(window.cut(recording, 16_000)) == round((window.end_s - window.start_s) * 16_000)


def test_window_times_do_not_drift_at_rates_without_a_whole_number_of_samples_in_20_ms():
    quiet, loud = 0.0001 * noise(300.0, sampling_rate=11_025), noise(6.0, sampling_rate=11_025)
    window = best_window(np.concatenate([quiet, loud, quiet]), 11_025)
    assert 299.9 <= window.start_s < window.end_s <= 306.2


def test_a_short_recording_is_its_own_best_window():
    window = best_window(noise(3.01), 16_000)
    assert (window.start_s, window.end_s) == (0.0, 3.01)


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


@needs_data
def test_all_305_public_prompts_are_valid_without_trimming():
    with np.load(DATA / "bark_prompts.npz") as archive:
        prompts = [VoicePrompt(archive[f"semantic_{i}"], archive[f"fine_{i}"]) for i in range(len(archive["names"]))]
    assert len(prompts) == 305
    assert sum(prompt.num_tokens for prompt in prompts) == 122_027


@needs_data
def test_all_real_pairs_load_or_lack_the_fine_codes():
    loaded, refused = 0, 0
    for path in sorted((DATA / "bark_pairs").glob("*.npz")):
        with np.load(path) as archive:
            has_fine = "fine_prompt" in archive.files
        if has_fine:
            loaded += VoicePrompt.load(path).num_tokens > 0
        else:
            with pytest.raises(VoicePromptError, match="fine model"):
                VoicePrompt.load(path)
            refused += 1
    assert (loaded, refused) == (21, 21)


@needs_data
def test_the_best_window_of_real_speech_is_dense_and_ends_at_a_pause():
    for path in sorted((DATA / "human" / "librispeech_251_speakers").glob("*.flac"))[::50]:
        waveform = load_audio(path)
        window = best_window(waveform, 16_000)
        assert window.ends_at_pause
        assert window.speech_share > 0.6


def test_the_old_names_of_the_entries_are_read(tmp_path):
    prompt = make_prompt()
    old = {"text": prompt.semantic_tokens, "coarse_1": prompt.coarse[0], "coarse_2": prompt.coarse[1]}
    np.savez(tmp_path / "old.npz", **old, fine=prompt.audio_codes.astype(np.int16))
    assert VoicePrompt.load(tmp_path / "old.npz") == prompt
    np.savez(tmp_path / "broken.npz", **{**old, "coarse_2": prompt.coarse[1, :-1]}, fine=prompt.audio_codes)
    with pytest.raises(VoicePromptError, match="equally long"):
        VoicePrompt.load(tmp_path / "broken.npz")
