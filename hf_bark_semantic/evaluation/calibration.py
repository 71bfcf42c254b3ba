"""Agreement of an encoder's confidence with its accuracy, and the temperatures that correct it.

    clip_statistics               log loss and histogram of one clip, at every temperature of a fixed grid
    expected_calibration_error    the calibration error of clips at one temperature
    fit_temperature               the temperature with the smallest log loss of the confidence
    calibration_report            errors before and after, each fold at the temperature of the other folds

A temperature divides the logarithms of the probabilities from `encode` (which already has the config's temperature, if
there is one), so 1 changes nothing. The error is that of Guo et al., "On Calibration of Modern Neural Networks"
(2017): tokens are sorted into 15 bins of equal width by their confidence, and the distance between mean confidence and
accuracy is averaged over the bins, each weighted by its share of the tokens.

Unlike Guo et al., the fit minimizes the log loss of the confidence as the probability that the top-1 prediction is
correct, not the log loss of the true token: of 10,000 tokens the true one is often far down the list, and the best
temperature for the whole list is not the best for its top (`training/LOG.md`).
"""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
import torch

from ..trainers.splits import digest
from .report_page import Table

NUM_BINS = 15
TEMPERATURES = tuple(round(2 ** (i / 8), 4) for i in range(-6, 12))  # 0.59 to 2.59, steps of 9 %
_UNCHANGED = TEMPERATURES.index(1.0)
_TOKENS_AT_ONCE = 256  # keeps the tensors of a long clip small


class ClipStatistics(TypedDict):
    """Statistics of the confidence in one clip, at each of `TEMPERATURES`.

    Args:
        log_loss (`list`): sum over the tokens of the log loss, in nats, of the confidence as the probability that the
            token is correct.
        bins (`list` of shape `(num_temperatures, NUM_BINS, 3)`): for each bin of confidence, the number of tokens, the
            sum of their confidence and the number of correct ones.
    """

    log_loss: list[float]
    bins: list[list[list[float]]]


def clip_statistics(tokens: torch.Tensor, probabilities: torch.Tensor, labels: torch.Tensor) -> ClipStatistics:
    """Compute the statistics of one clip.

    Args:
        tokens (`torch.LongTensor` of shape `(num_tokens, vocab_size)`): the whole vocabulary, the likeliest first.
        probabilities (`torch.FloatTensor` of the same shape): their probabilities.
        labels (`torch.LongTensor` of shape `(num_tokens,)`): the true tokens.
    """
    log_loss, bins = np.zeros(len(TEMPERATURES)), np.zeros((len(TEMPERATURES), NUM_BINS, 3))
    hits = (tokens[:, 0] == labels).double().cpu().numpy()
    for start in range(0, len(labels), _TOKENS_AT_ONCE):
        part = slice(start, start + _TOKENS_AT_ONCE)
        log_probabilities = probabilities[part].clamp(min=torch.finfo(torch.float32).tiny).log()
        for i, temperature in enumerate(TEMPERATURES):
            tempered = log_probabilities / temperature
            confidence = (tempered[:, 0] - tempered.logsumexp(-1)).exp().double().cpu().numpy()
            log_loss[i] -= np.log(np.maximum(np.where(hits[part], confidence, 1 - confidence), 1e-9)).sum()
            index = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
            for column, weights in enumerate((None, confidence, hits[part])):
                bins[i, :, column] += np.bincount(index, weights, NUM_BINS)
    return {"log_loss": log_loss.tolist(), "bins": bins.tolist()}


def expected_calibration_error(bins: np.ndarray) -> float:
    """Mean distance of confidence and accuracy, in `[0, 1]`.

    Args:
        bins (`np.ndarray` of shape `(NUM_BINS, 3)`): from `ClipStatistics`, summed over clips.
    """
    num_tokens, confidence, hits = np.asarray(bins).T
    return float(np.abs(confidence - hits).sum() / num_tokens.sum())


def fit_temperature(statistics: Sequence[ClipStatistics]) -> float:
    """The temperature of the grid with the smallest log loss of the clips' confidence.

    Raises:
        ValueError: no clips.
    """
    if not statistics:
        raise ValueError("There is no clip to fit a temperature to.")
    return TEMPERATURES[int(np.sum([clip["log_loss"] for clip in statistics], axis=0).argmin())]


def calibration_report(scores: Sequence, folds: Sequence[int]) -> dict[str, dict]:
    """Calibration for each kind of input, before and after temperature scaling.

    Args:
        scores (sequence of `ClipScore`): scores with `statistics`.
        folds (sequence of `int`): the fold of each score. The error "after" of a fold is at the temperature fitted to
            the other folds. If there is only one fold, two halves of its voices are used as folds.

    Returns:
        `dict`: for each kind of input with at least two folds or voices, `temperature` (fitted to all folds, as a
            factor of the config's), `temperatures_of_folds`, and `errors`: `before` and `after` for each kind of clip
            and for `"all"`. With one voice, `before` only.
    """
    if len(set(folds)) == 1:
        voices = sorted({score.group for score in scores}, key=digest)
        folds = [voices.index(score.group) % 2 for score in scores]
    report = {}
    for inputs in dict.fromkeys(score.inputs for score in scores):
        chosen = [(score, fold) for score, fold in zip(scores, folds, strict=True) if score.inputs == inputs]
        of_fold = {}
        for fold in sorted({fold for _, fold in chosen}):
            others = [score.statistics for score, of in chosen if of != fold]
            of_fold[fold] = fit_temperature(others) if others else None
        row = {"errors": {}}
        if len(of_fold) > 1:
            row["temperature"] = fit_temperature([score.statistics for score, _ in chosen])
            row["temperatures_of_folds"] = list(of_fold.values())
        for kind in ["all", *dict.fromkeys(score.kind for score, _ in chosen)]:
            part = [(score.statistics["bins"], of_fold[fold]) for score, fold in chosen if kind in ("all", score.kind)]
            errors = {"before": expected_calibration_error(sum(np.array(bins[_UNCHANGED]) for bins, _ in part))}
            if len(of_fold) > 1:
                after = sum(np.array(bins[TEMPERATURES.index(temperature)]) for bins, temperature in part)
                errors["after"] = expected_calibration_error(after)
            row["errors"][kind] = errors
        report[inputs] = row
    return report


def calibration_lines(report: Mapping[str, dict]) -> list[str]:
    """The figures of [`calibration_report`] as lines of text."""
    lines = [f"{f'{kind}, {inputs}':24s} calibration error {errors}" for inputs, kind, errors in _errors(report)]
    for inputs, row in report.items():
        if "temperature" in row:
            folds = ", ".join(f"{value:g}" for value in row["temperatures_of_folds"])
            lines.append(f"{inputs}: temperature {row['temperature']:g} (fitted without one fold: {folds})")
    return lines


def calibration_table(report: Mapping[str, dict]) -> Table:
    """The errors of [`calibration_report`]."""
    rows = [[kind, inputs, errors] for inputs, kind, errors in _errors(report)]
    note = f"Top-1 predictions, {NUM_BINS} bins; before -> after temperature scaling fitted to the other folds."
    return Table("Expected calibration error", ["clips", "read from", "error"], rows, note)


def _errors(report: Mapping[str, dict]) -> list[tuple[str, str, str]]:
    return [
        (inputs, kind, " -> ".join(f"{error:.1%}" for error in errors.values()))
        for inputs, row in report.items()
        for kind, errors in row["errors"].items()
    ]


__all__ = [
    "NUM_BINS",
    "TEMPERATURES",
    "ClipStatistics",
    "calibration_lines",
    "calibration_report",
    "calibration_table",
    "clip_statistics",
    "expected_calibration_error",
    "fit_temperature",
]
