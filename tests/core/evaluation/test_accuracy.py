"""Accuracies by hand, intervals against a bootstrap that is done the long way, and McNemar's test."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wavslm_core.evaluation.accuracy import accuracy, credit, item_credits, macro_accuracy, mcnemar

NAN = math.nan


@pytest.mark.parametrize(
    ("positive", "negative", "half", "strict"),
    [(-1.0, -2.0, 1, 1), (-2.0, -1.0, 0, 0), (-1.0, -1.0, 0.5, 0), (NAN, -1.0, 0.5, 0), (NAN, NAN, 0.5, 0)],
)
def test_a_pair_counts_one_half_or_nothing(
    positive: float, negative: float, half: float, strict: float
) -> None:
    assert credit(positive, negative, ties="half") == half
    assert credit(positive, negative, ties="strict") == strict


def test_voices_of_an_item_count_as_one() -> None:
    items = ["a", "a", "a", "b"]
    found = accuracy(items, [1.0, 1.0, 0.5, 0.0])
    assert found.percent == pytest.approx(100 * (2.5 / 3 + 0) / 2)
    assert (found.items, found.pairs) == (2, 4)
    # Of two items, resamples tell nothing.
    assert math.isnan(found.low)


def test_averages_over_pairs_and_over_types_differ() -> None:
    many, few = [f"m{n}" for n in range(30)], [f"f{n}" for n in range(10)]
    over_pairs = accuracy([*many, *few], [1.0] * 30 + [0.0] * 10)
    over_types = macro_accuracy([(many, [1.0] * 30), (few, [0.0] * 10)])
    assert (over_pairs.percent, over_types.percent) == (75.0, 50.0)
    assert (over_types.items, over_types.pairs) == (40, 40)


def test_the_interval_is_that_of_drawing_items_with_all_their_voices() -> None:
    rng = np.random.default_rng(3)
    # Four voices that agree: as pairs they would be independent, and the interval half as wide.
    credits_NV = np.repeat(rng.integers(0, 2, (60, 1)), 4, axis=1).astype(float)
    credits_NV[rng.uniform(size=credits_NV.shape) < 0.1] = 0.5
    items = [str(item) for item in range(60) for _ in range(4)]
    found = accuracy(items, credits_NV.ravel().tolist())
    drawn = credits_NV[rng.integers(0, 60, (10_000, 60))].mean(axis=(1, 2))
    expected = 100 * np.quantile(drawn, [0.025, 0.975])
    assert [found.low, found.high] == pytest.approx(expected.tolist(), abs=0.9)
    assert found.high - found.low > 20
    assert accuracy(items, credits_NV.ravel().tolist()) == found


def test_what_is_all_right_has_the_exact_bounds() -> None:
    found = accuracy([str(n) for n in range(20)], [1.0] * 20)
    assert (found.percent, found.high) == (100.0, 100.0)
    # 0.832^20 = 0.025: table of Clopper and Pearson.
    assert found.low == pytest.approx(83.16, abs=0.01)
    nothing = accuracy([str(n) for n in range(20)], [0.0] * 20)
    assert (nothing.percent, nothing.low) == (0.0, 0.0)
    assert nothing.high == pytest.approx(16.84, abs=0.01)
    assert math.isnan(accuracy([], []).percent)


@pytest.mark.parametrize(
    ("won", "lost", "p"),
    [(9, 2, 0.0654), (1, 8, 0.0391), (5, 5, 1.0), (0, 0, 1.0), (1, 0, 1.0), (3100, 2900, 0.0102)],
)
def test_mcnemar(won: int, lost: int, p: float) -> None:
    one = (
        {f"w{n}": 1.0 for n in range(won)} | {f"l{n}": 0.25 for n in range(lost)} | {"even": 0.5, "alone": 1}
    )
    other = {f"w{n}": 0.75 for n in range(won)} | {f"l{n}": 0.5 for n in range(lost)} | {"even": 0.5}
    found = mcnemar(one, other)
    assert (found.better, found.worse) == (won, lost)
    assert found.p == pytest.approx(p, abs=5e-5)


def test_credits_of_items() -> None:
    assert item_credits(["a", "b", "a"], [1.0, 0.5, 0.0]) == {"a": 0.5, "b": 0.5}
