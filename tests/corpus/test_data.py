"""Crops, batches, augmentation and centroids of a training."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_bark_semantic.configuration_bark_semantic import (
    num_codec_frames,
    num_samples_of_codec_frames,
    num_semantic_tokens,
    num_semantic_tokens_of_samples,
    token_frames,
)
from hf_bark_semantic.corpus.rows import load_corpus, split_fold
from hf_bark_semantic.trainers.augmentation import SpectrogramAugmentation, WaveformAugmentation, add_noise
from hf_bark_semantic.trainers.encoder_batches import BatchPlan, CropBatches, collate, crop
from hf_bark_semantic.trainers.initial_heads import centroids_of_tokens, nearest_centroid, token_features
from tiny import corpus_row, noise, random_codes, tiny_encoder


def test_lengths_follow_barks_formula_exactly():
    for n in range(1, 3_000):
        frames = num_codec_frames(n)
        assert frames == int(np.floor(n * 75 / 49.9)) and num_semantic_tokens(frames) == n
        for rate in (8_000, 16_000, 22_050, 24_000, 44_100, 48_000):
            assert num_semantic_tokens_of_samples(num_samples_of_codec_frames(frames, rate), rate) == n


def test_a_token_takes_the_frame_in_which_its_middle_lies():
    for i in range(5_000):
        middle_s = (i + 0.5) / 49.9
        assert token_frames(i) == int(middle_s * 50 + 1e-9)


def test_all_real_pairs_have_the_tokens_that_their_duration_says(real_data):
    for path in sorted((real_data / "bark_pairs").glob("*.npz")):
        arrays = np.load(path, allow_pickle=False)
        assert num_semantic_tokens(arrays["coarse_prompt"].shape[1]) == len(arrays["semantic_prompt"]), path.name


def test_every_crop_has_the_tokens_that_the_model_counts(corpus):
    clip = load_corpus(corpus)[0]
    for start in (0, 1, 7, 50, 130):
        part = crop(clip, start, 50)
        assert num_semantic_tokens_of_samples(len(part.waveform)) == 50 == len(part.semantic_tokens)
        assert num_semantic_tokens(part.audio_codes.shape[1]) == 50
        model = tiny_encoder("whisper", codec_hidden_size=8)
        assert torch.isfinite(model(**collate([part], 1024)).loss)


def test_batches_are_a_pure_function_of_seed_and_step(corpus):
    clips = load_corpus(corpus)
    plan = BatchPlan(crops={"pair": 3, "prompt": 2}, num_tokens=40)

    def batch(step, seed=0):
        return CropBatches(
            clips, plan, steps=10, seed=seed, codebook_size=1024, waveform_augmentation=WaveformAugmentation()
        )[step]

    first, again, other = batch(3), batch(3), batch(4)
    assert [set(inputs) for inputs in first] == [
        {"input_values", "attention_mask", "audio_codes", "audio_codes_mask", "labels"},
        {"audio_codes", "audio_codes_mask", "labels"},
    ]
    assert all(torch.equal(a[k], b[k]) for a, b in zip(first, again, strict=True) for k in a)
    assert not torch.equal(first[0]["input_values"], other[0]["input_values"])
    assert not torch.equal(first[0]["labels"], batch(3, seed=1)[0]["labels"])


def test_a_fold_leaves_out_what_may_leak(tmp_path):
    rows = [corpus_row(0), corpus_row(1, fold=1), corpus_row(2, fold=1, in_folds=False)]
    Dataset.from_list(rows).save_to_disk(tmp_path / "c")
    clips = load_corpus(str(tmp_path / "c"))
    training, held_out = split_fold(clips, 0)
    assert [c.id for c in training] == ["pair-1"] and [c.id for c in held_out] == ["pair-0"]
    assert len(split_fold(clips, None)[0]) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"audio_codes": random_codes(100).tolist()}, "pair-0: 180 tokens make 270 codec frames, but there are 100"),
        ({"audio": noise(2.0)}, "pair-0: 180 tokens make 57600 samples"),
    ],
)
def test_corrupt_pairs_are_named(tmp_path, change, message):
    Dataset.from_list([corpus_row(0, **change)]).save_to_disk(tmp_path / "c")
    with pytest.raises(ValueError, match=message):
        load_corpus(str(tmp_path / "c"))


def test_a_plan_without_clips_is_refused(corpus):
    with pytest.raises(ValueError, match="'sweep'"):
        CropBatches(load_corpus(corpus), BatchPlan(crops={"sweep": 1}), steps=1, seed=0, codebook_size=1024)


def test_waveform_augmentation_keeps_the_length_and_the_asked_noise_ratio():
    rng = np.random.default_rng(0)
    waveform, hiss = noise(1.0, 1), noise(1.0, 2) * 3
    augmentation = WaveformAugmentation([hiss], [np.r_[np.zeros(5), 1.0, np.zeros(80), 0.5]], 1.0, 1.0, 1.0)
    changed = augmentation(waveform, rng)
    assert changed.shape == waveform.shape and changed.dtype == np.float32 and np.isfinite(changed).all()
    added = add_noise(waveform, hiss, 10.0) - waveform
    assert 10 * np.log10(np.mean(waveform**2) / np.mean(added**2)) == pytest.approx(10.0, abs=1e-3)


def test_spectrogram_augmentation_moves_frequencies_and_hides_at_most_what_it_may():
    torch.manual_seed(0)
    spectrogram = torch.zeros(64, 100, 80)
    spectrogram[..., 40] = 1.0
    warped = SpectrogramAugmentation(1.0, (0.8, 0.9), 0, 0, 0, 0)(spectrogram)
    assert (warped.mean(1).argmax(-1) > 40).all()  # reading lower down moves the peak up
    hidden = SpectrogramAugmentation(0.0, (1, 1), 1, 10, 0, 0)(torch.rand(64, 100, 80)) == torch.tensor(0.0)
    assert not hidden.any()
    unchanged = SpectrogramAugmentation(0.0, (1, 1), 0, 0, 0, 0)(spectrogram)
    assert torch.equal(unchanged, spectrogram)


def test_centroids_of_tokens_are_the_means_and_k_means_lowers_the_distance(corpus):
    model = tiny_encoder("hubert", backbone_layers=[1])
    clips = [clip for clip in load_corpus(corpus) if clip.source == "pair"]
    features, labels = token_features(model, clips)
    means, seen = centroids_of_tokens(model, clips)
    token = int(labels[0])
    torch.testing.assert_close(means[token], features[labels == token].mean(0), atol=1e-5, rtol=1e-4)
    assert set(labels.tolist()) == set(seen.nonzero()[:, 0].tolist())
    refined, _ = centroids_of_tokens(model, clips, iterations=3, label_weight=0.0)

    def inertia(centroids):
        nearest = nearest_centroid(features, centroids, seen)
        return (features - centroids[nearest]).square().sum()

    assert inertia(refined) < inertia(means)
