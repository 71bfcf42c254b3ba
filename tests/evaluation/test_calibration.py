"""Calibration of the confidence from statistics of single clips."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hf_bark_semantic.corpus.rows import Clip
from hf_bark_semantic.evaluation import calibration
from hf_bark_semantic.evaluation.calibration import (
    NUM_BINS,
    TEMPERATURES,
    calibration_lines,
    calibration_report,
    clip_statistics,
    expected_calibration_error,
    fit_temperature,
)
from hf_bark_semantic.evaluation.tokens import ClipScore, score_clips
from tiny import corpus_row, tiny_encoder


def statistics_of(sharpness: float, num_tokens: int = 6_000, seed: int = 0):
    """Of an encoder whose logits are `sharpness` times those that the truth is drawn from."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(num_tokens, 12, generator=generator)
    labels = logits.softmax(-1).multinomial(1, generator=generator)[:, 0]
    best = (sharpness * logits).softmax(-1).sort(descending=True)
    return clip_statistics(best.indices, best.values, labels), sharpness * logits, labels


def errors_of(statistics) -> list[float]:
    return [expected_calibration_error(bins) for bins in statistics["bins"]]


def score(statistics, *, inputs="audio", kind="english") -> ClipScore:
    return ClipScore("clip", "voice", kind, inputs, 10, 1, 2, statistics)


def test_error_is_the_weighted_distance_of_confidence_and_accuracy():
    bins = np.zeros((NUM_BINS, 3))
    bins[3], bins[9] = (30, 7.0, 10), (10, 6.5, 2)  # 3 hits too few, 4.5 too many, of 40 tokens
    assert expected_calibration_error(bins) == pytest.approx(7.5 / 40)


@pytest.mark.parametrize("tokens_at_once", [7, 10_000])
def test_statistics_hold_loss_and_bins_at_every_temperature(tokens_at_once, monkeypatch):
    monkeypatch.setattr(calibration, "_TOKENS_AT_ONCE", tokens_at_once)
    statistics, logits, labels = statistics_of(1.3, num_tokens=100)
    losses, bins_of = statistics["log_loss"], np.array(statistics["bins"])
    for temperature, loss, bins in zip(TEMPERATURES, losses, bins_of, strict=True):
        confidence, guess = (logits / temperature).softmax(-1).max(-1)
        hits = (guess == labels).float()
        expected = torch.nn.functional.binary_cross_entropy(confidence, hits, reduction="sum")
        assert loss == pytest.approx(float(expected), rel=1e-4)
        assert bins.sum(0) == pytest.approx([100, float(confidence.sum()), int(hits.sum())], rel=1e-4)
        filled = np.flatnonzero(bins[:, 0])
        means = bins[filled, 1] / bins[filled, 0]
        assert (filled / NUM_BINS <= means).all() and (means <= (filled + 1) / NUM_BINS).all()


@pytest.mark.parametrize("sharpness", [2.0, 1.0, 0.7071])
def test_the_fitted_temperature_undoes_what_is_wrong_with_the_confidence(sharpness):
    statistics, *_ = statistics_of(sharpness)
    temperature, errors = fit_temperature([statistics]), errors_of(statistics)
    assert temperature == pytest.approx(sharpness, rel=0.1)  # a step of the grid
    assert errors[TEMPERATURES.index(temperature)] < 0.02
    assert errors[TEMPERATURES.index(1.0)] > 0.05 or sharpness == 1


def test_a_fold_is_reported_at_the_temperature_of_the_others():
    sharp, right = statistics_of(2.0)[0], statistics_of(1.0, seed=1)[0]
    scores = [score(sharp), score(right, kind="prompt"), score(sharp, inputs="codes")]
    report = calibration_report(scores, [0, 1, 1])
    audio = report["audio"]
    assert audio["temperatures_of_folds"] == [1.0, 2.0] and 1 < audio["temperature"] < 2
    before, worse = errors_of(sharp)[TEMPERATURES.index(1.0)], errors_of(right)[TEMPERATURES.index(2.0)]
    assert audio["errors"]["english"] == pytest.approx({"before": before, "after": before})
    assert audio["errors"]["prompt"]["after"] == pytest.approx(worse) and worse > 0.05
    assert list(report["codes"]["errors"]["all"]) == ["before"] and "temperature" not in report["codes"]
    lines = calibration_lines(report)
    assert any(line.startswith("prompt, audio ") and " -> " in line for line in lines)
    assert f"audio: temperature {audio['temperature']:g} (fitted without one fold: 1, 2)" in lines
    with pytest.raises(ValueError, match="no clip"):
        fit_temperature([])


def test_halves_of_the_voices_take_the_place_of_folds_where_there_is_one():
    parts = [statistics_of(2.0, seed=seed)[0] for seed in range(4)]
    scores = [replace(score(part), group=f"voice {number}") for number, part in enumerate(parts)]
    audio = calibration_report(scores, [4] * 4)["audio"]
    assert len(audio["temperatures_of_folds"]) == 2
    assert audio["temperature"] == pytest.approx(2.0, rel=0.1)
    assert audio["errors"]["all"]["after"] < 0.03 < audio["errors"]["all"]["before"]
    assert "temperature" not in calibration_report(scores[:1], [4])["audio"]


def test_scores_of_clips_say_what_encode_says_with_the_temperature():
    row = corpus_row(0, num_tokens=60)
    waveform, arrays = row.pop("audio"), {name: np.array(row[name]) for name in ("semantic_tokens", "audio_codes")}
    model, clip = tiny_encoder(codec_hidden_size=16), Clip(**{**row, **arrays, "waveform": waveform})
    scores = {found.inputs: found for found in score_clips(model, [clip])}
    assert set(scores) == {"audio", "codes", "audio+codes"}
    temperature = TEMPERATURES[-3]
    model.config.temperatures = dict.fromkeys(scores, temperature)
    for again in score_clips(model, [clip]):
        before, after = (np.array(found.statistics["bins"]) for found in (scores[again.inputs], again))
        unchanged = TEMPERATURES.index(1.0)
        assert np.allclose(after[unchanged], before[TEMPERATURES.index(temperature)], atol=1e-3)
        assert (again.top_1, again.top_5) == (scores[again.inputs].top_1, scores[again.inputs].top_5)
        assert "statistics" not in again.as_row() and after[unchanged, :, 2].sum() == again.top_1
