"""Batches of similar length, and evenly spread choices."""

from __future__ import annotations

import numpy as np

from wavslm_core.data.length_batches import length_batches, spread


def test_every_item_once_within_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(0, 50, 200)
    batches = list(length_batches(lengths, budget=120))
    assert sorted(index for batch in batches for index in batch) == list(range(200))
    assert all(len(batch) * lengths[batch].max() <= 120 for batch in batches)
    # A batch ends only where one more item would not have fitted.
    assert all((len(batch) + 1) * lengths[batch].max() > 120 for batch in batches[:-1])


def test_an_item_beyond_the_budget_comes_alone() -> None:
    assert list(length_batches([5, 1000, 6], budget=100)) == [[1], [2, 0]]
    assert list(length_batches([], budget=100)) == []


def test_spread() -> None:
    assert spread(10, 5) == [0, 2, 4, 6, 8]
    assert spread(3, 5) == [0, 1, 2]
    assert spread(3, None) == [0, 1, 2]
