"""Measures of recordings, the best part for a prompt, and reports on prompts."""

import numpy as np
import pytest

from hf_bark_semantic.audio import load_audio
from hf_bark_semantic.bark.configs import HistoryLengths
from hf_bark_semantic.bark.voice_prompt import VoicePrompt
from hf_bark_semantic.configuration_bark_semantic import num_codec_frames
from hf_bark_semantic.voices.window import best_window, best_windows, prompt_report


def make_prompt(num_tokens=300, seed=0):
    rng = np.random.default_rng(seed)
    return VoicePrompt(rng.integers(0, 10_000, num_tokens), rng.integers(0, 1_024, (8, num_codec_frames(num_tokens))))


def noise(seconds, level=0.2, sampling_rate=16_000):
    return (level * np.random.default_rng(0).standard_normal(round(seconds * sampling_rate))).astype(np.float32)


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


def test_the_report_warns_of_clipping_silence_and_a_cut_word():
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


def test_the_best_window_of_real_speech_is_dense_and_ends_at_a_pause(real_data):
    for path in sorted((real_data / "human" / "librispeech_251_speakers").glob("*.flac"))[::50]:
        waveform = load_audio(path)
        window = best_window(waveform, 16_000)
        assert window.ends_at_pause
        assert window.speech_share > 0.6


def test_the_best_windows_differ_and_come_in_the_order_of_their_scores():
    pause = 0.001 * noise(0.3)
    recording = np.concatenate([part for seed in range(8) for part in (noise(2.7, seed), pause)])
    windows = best_windows(recording, 16_000, count=5)
    assert windows[0] == best_window(recording, 16_000)
    assert 2 < len(windows) <= 5
    assert [window.score for window in windows] == sorted((window.score for window in windows), reverse=True)
    ends = sorted(window.end_s for window in windows)
    assert min(np.diff(ends)) > 5.13 / 2
