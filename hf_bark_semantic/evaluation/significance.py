"""Confidence intervals, and tests whether two conditions differ.

    ratio_estimate       a mean or a rate, such as the word error rate, with its interval
    paired_difference    two conditions on the same trials: difference, interval, p-value
    holm                 p-values corrected for multiple comparisons

Every figure of an evaluation is a ratio of sums, such as wrong words to spoken words. Trials of one voice are
correlated, so whole groups (voices) are resampled and flipped, never single trials.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_EXACT_GROUPS = 12  # up to this number, all 2^n sign flips are enumerated


@dataclass(frozen=True)
class Estimate:
    """A figure, the bounds of its interval, and its numbers of trials and groups."""

    value: float
    low: float
    high: float
    count: int
    groups: int

    def named(self, name: str) -> dict[str, float]:
        """The result of a metric of `evaluate`: `{name, name_low, name_high}`."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


@dataclass(frozen=True)
class PairedDifference:
    """First minus second condition, the bounds of its interval, and the p-value."""

    value: float
    low: float
    high: float
    p_value: float
    count: int
    groups: int


def ratio_estimate(
    numerators: Sequence[float],
    denominators: Sequence[float] | None = None,
    *,
    groups: Sequence[str] | None = None,
    samples: int = 2_000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """`sum(numerators) / sum(denominators)` with a percentile interval from a bootstrap over groups.

    Args:
        numerators (sequence of `float`): one per trial, such as word errors, or 0 and 1.
        denominators (sequence of `float`, *optional*): one per trial, such as words; 1 each by default, for a mean.
        groups (sequence of `str`, *optional*): the voice of each trial. If there is one group only, trials are
            resampled instead.
        samples (`int`), level (`float`), seed (`int`): settings of the bootstrap.

    Raises:
        ValueError: no trials, sequences of different lengths, or denominators that add up to 0.
    """
    tops, bottoms, num_trials = _group_sums(numerators, denominators, groups)
    values = _resampled_ratios(tops, bottoms, samples, seed)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(tops.sum() / bottoms.sum()), float(low), float(high), num_trials, len(tops))


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    denominators: Sequence[float] | None = None,
    *,
    groups: Sequence[str] | None = None,
    samples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """The figure of the first condition minus that of the second, on the same trials.

    The interval is as in [`ratio_estimate`]. The two-sided p-value is from a sign-flip test that swaps the conditions
    of whole groups: in all ways for at most 12 groups, otherwise in `samples` random ways.

    Args:
        first, second (sequences of `float`): one per trial, the same trials in the same order.
        denominators (sequence of `float`, *optional*): for both, such as the number of words in the trial's text.
        groups, samples, level, seed: as in [`ratio_estimate`].

    Raises:
        ValueError: as in [`ratio_estimate`].
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} values are not pairs; give one of each per trial.")
    differences = np.asarray(first, float) - np.asarray(second, float)
    tops, bottoms, num_trials = _group_sums(differences, denominators, groups)
    values = _resampled_ratios(tops, bottoms, samples, seed)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    p_value = _sign_flip_p_value(tops, samples, seed)
    return PairedDifference(float(tops.sum() / bottoms.sum()), float(low), float(high), p_value, num_trials, len(tops))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: the smallest of n p-values times n, the next times n - 1, ..., monotonic, at most 1."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def _group_sums(numerators, denominators, groups) -> tuple[np.ndarray, np.ndarray, int]:
    """The sums of numerators and denominators by group, `(num_groups,)` each, and the number of trials."""
    tops = np.asarray(numerators, float)
    bottoms = np.ones(len(tops)) if denominators is None else np.asarray(denominators, float)
    names = list(range(len(tops))) if groups is None else list(groups)
    if not len(tops):
        raise ValueError("There are no trials, so there is nothing to estimate.")
    if not len(tops) == len(bottoms) == len(names):
        raise ValueError(
            f"There are {len(tops)} numerators, {len(bottoms)} denominators and {len(names)} groups; give one of each "
            "per trial."
        )
    if bottoms.sum() <= 0:
        raise ValueError(f"The denominators add up to {bottoms.sum():g}; there is nothing to divide by.")
    if len(set(names)) == 1:
        names = list(range(len(tops)))
    index = {name: i for i, name in enumerate(dict.fromkeys(names))}
    groups = np.array([index[name] for name in names])
    return np.bincount(groups, tops), np.bincount(groups, bottoms), len(tops)


def _resampled_ratios(tops: np.ndarray, bottoms: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """The ratio for each resampling of groups, `(samples,)`; draws with denominators of 0 are left out."""
    num_groups = len(tops)
    draws = np.random.default_rng(seed).multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=samples)
    bottoms = draws @ bottoms  # draws: (samples, num_groups)
    return (draws @ tops)[bottoms > 0] / bottoms[bottoms > 0]


def _sign_flip_p_value(differences: np.ndarray, samples: int, seed: int) -> float:
    num_groups, observed = len(differences), abs(differences.sum()) - 1e-9
    if num_groups <= MAX_EXACT_GROUPS:
        signs = 1 - 2 * (np.arange(2**num_groups)[:, None] >> np.arange(num_groups) & 1)
        return float((np.abs(signs @ differences) >= observed).mean())
    signs = np.random.default_rng(seed).choice([-1, 1], size=(samples, num_groups))
    return float((1 + (np.abs(signs @ differences) >= observed).sum()) / (1 + samples))


__all__ = ["Estimate", "PairedDifference", "holm", "paired_difference", "ratio_estimate"]
