"""Means and differences with intervals over utterances."""

from __future__ import annotations

import math

import pytest
import torch

from wavslm_core.parts.estimates import by_speaker, difference_estimate, json_value, ratio_estimate


def test_estimates() -> None:
    # Equal counts: a ratio is a mean of the quotients.
    estimate = ratio_estimate([10.0, 20.0, 30.0], [10, 10, 10])
    assert (estimate.mean, estimate.count) == (2.0, 3)
    assert estimate.interval == pytest.approx(1.96 / math.sqrt(3))
    assert ratio_estimate([5.0, 0.0], [2, 0]).mean == 2.5
    assert math.isnan(ratio_estimate([5.0], [2]).interval)
    assert math.isnan(ratio_estimate([], []).mean)
    assert json_value({"a": [float("nan"), 1.0, "x"]}) == {"a": [None, 1.0, "x"]}


def test_interval_covers_the_truth() -> None:
    """Over many draws of utterances of uneven length, about 95% of the intervals hold the true ratio."""
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(400):
        counts = torch.randint(20, 200, (60,), generator=generator).double()
        levels = 4 + torch.randn(60, generator=generator).double()
        found = ratio_estimate((counts * levels).numpy(), counts.numpy())
        hits += abs(found.mean - 4.0) <= found.interval
    assert 0.91 < hits / 400 < 0.985


def test_by_speaker() -> None:
    found = by_speaker(["b", "a", "b", None], [1.0, 5.0, 3.0, 9.0], [1, 1, 1, 1])
    assert {name: estimate.mean for name, estimate in found.items()} == {"a": 5.0, "b": 2.0}
    assert by_speaker(["a", "a"], [1.0, 2.0], [1, 1]) == {}


def test_differences_are_taken_utterance_by_utterance() -> None:
    hard = [0.0, 10.0, 20.0, 30.0]
    found = difference_estimate(([x + 1 for x in hard], [2] * 4), (hard, [2] * 4))
    assert (found.mean, found.interval, found.count) == (0.5, 0.0, 4)
    # One that only one of them has says nothing of the difference.
    left_out = difference_estimate(([1.0, 2.0, 9.0], [1, 1, 1]), ([0.0, 0.0, 0.0], [1, 1, 0]))
    assert (left_out.mean, left_out.count) == (1.5, 2)
    alone = difference_estimate(([1.0], [1]), ([0.0], [1]))
    assert (alone.mean, alone.count, math.isnan(alone.interval)) == (1.0, 1, True)
    assert difference_estimate(([], []), ([], [])).count == 0
    # Without pairs in common it is the interval of independent ones.
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(400, generator=generator).numpy() for _ in range(2))
    ones = [1.0] * 400
    apart = difference_estimate((one, ones), (other, ones)).interval
    both = [ratio_estimate(values, ones).interval for values in (one, other)]
    assert apart == pytest.approx(math.hypot(*both), rel=0.1)
