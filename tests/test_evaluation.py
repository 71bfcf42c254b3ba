"""Metrics on cases whose answer is known."""

import numpy as np
import pytest
import torch

from hf_bark_semantic.evaluation import (
    ClipScore,
    accuracy,
    agreement,
    bootstrap_interval,
    summarize,
    unigram_distance,
)


def score(group, hits, tokens=100, kind="english", inputs="audio"):
    return ClipScore(f"clip-{group}", group, kind, inputs, tokens, hits, min(tokens, 2 * hits))


def test_accuracy_weighs_tokens_not_clips():
    assert accuracy([score("a", 10, 10), score("b", 0, 90)]) == pytest.approx(0.1)


def test_interval_is_a_point_where_groups_agree_and_wide_where_they_do_not():
    same = [score(g, 30) for g in "abcdef"]
    assert bootstrap_interval(same, accuracy) == (0.3, 0.3)
    low, high = bootstrap_interval(
        [score(g, h) for g, h in zip("abcdef", (0, 0, 0, 60, 60, 60), strict=True)], accuracy
    )
    assert low < 0.15 and high > 0.45


def test_summary_keeps_kinds_and_ways_of_reading_apart():
    table = summarize([score("a", 10), score("a", 20, inputs="codes"), score("b", 40, kind="music")])
    assert table["english, audio"]["top_1"]["mean"] == 0.1
    assert table["english, codes"]["top_1"]["mean"] == 0.2
    assert table["music, audio"]["top_5"]["mean"] == 0.8


def test_unigram_distance_is_zero_for_equal_and_one_for_disjoint_samples():
    tokens = np.array([1, 2, 2, 3])
    assert unigram_distance(tokens, tokens, 10) == 0.0
    assert unigram_distance(tokens, np.array([7, 8]), 10) == pytest.approx(1.0)


def test_agreement_counts_equal_positions():
    assert agreement(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 9, 3])) == pytest.approx(2 / 3)
