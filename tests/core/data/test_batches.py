from __future__ import annotations

import numpy as np
import pytest

from wavslm_core.data.batches import (
    CropOrder,
    batch_items,
    permute,
    window_starts,
    windows_per_epoch,
)
from wavslm_core.errors import DataError


@pytest.mark.parametrize("size", [1, 2, 3, 10, 64, 65, 1000, 4097])
def test_permutations_are_one_to_one_and_differ_by_key(size: int) -> None:
    orders = {
        (seed, epoch): tuple(permute(np.arange(size), size=size, seed=seed, epoch=epoch))
        for seed in (0, 1)
        for epoch in (0, 1, 2)
    }
    for order in orders.values():
        assert sorted(order) == list(range(size))
    if size >= 10:
        assert len(set(orders.values())) == len(orders)


def test_permutations_mix() -> None:
    order = permute(np.arange(10_000), size=10_000, seed=0, epoch=0)
    steps = np.abs(np.diff(order))
    # Neighbours of a random permutation lie size/3 apart on average.
    assert 3000 < steps.mean() < 3700
    assert abs(np.corrcoef(np.arange(10_000), order)[0, 1]) < 0.03


def test_permutations_of_billions_cost_nothing() -> None:
    size = 10_800_000_001
    indices = np.array([0, 1, size // 2, size - 1])
    order = permute(indices, size=size, seed=3, epoch=7)
    assert len(set(order.tolist())) == 4
    assert order.min() >= 0
    assert order.max() < size


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_global_batch_does_not_depend_on_how_it_is_divided(world_size: int) -> None:
    for step in (0, 3, 40):
        whole, _ = batch_items(101, seed=5, step=step, batch_size=8)
        parts = [
            batch_items(101, seed=5, step=step, batch_size=8 // world_size, rank=rank, world_size=world_size)[
                0
            ]
            for rank in range(world_size)
        ]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_an_epoch_takes_every_item_once_even_across_steps() -> None:
    items = np.concatenate([batch_items(30, seed=1, step=step, batch_size=8)[0] for step in range(15)])
    for epoch in range(4):
        assert sorted(items[30 * epoch : 30 * (epoch + 1)]) == list(range(30))
    assert items[:30].tolist() != items[30:60].tolist()


@pytest.mark.parametrize(
    ("total", "length", "align"), [(1000, 48, 4), (100, 100, 4), (199, 100, 4), (997, 10, 1)]
)
def test_windows_of_an_epoch_are_aligned_disjoint_and_cover(total: int, length: int, align: int) -> None:
    count = windows_per_epoch(total, length=length, align=align)
    grids = set()
    for epoch in range(12):
        starts = np.concatenate(
            [
                window_starts(total, length=length, seed=2, step=epoch * count + i, batch_size=1, align=align)
                for i in range(count)
            ]
        )
        ordered = np.sort(starts)
        assert (starts % align == 0).all()
        assert (np.diff(ordered) == length).all()
        assert ordered[0] >= 0
        assert ordered[-1] + length <= total
        assert total - count * length < 2 * length
        grids.add(int(ordered[0]))
    if total - count * length >= 2 * align:
        assert len(grids) > 1


def test_windows_do_not_depend_on_history() -> None:
    def at(step: int) -> list[int]:
        return window_starts(10**10, length=500, seed=9, step=step, batch_size=4, align=4).tolist()

    later = at(123_456)
    for step in range(3):
        at(step)
    assert at(123_456) == later
    assert at(123_457) != later


def test_windows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="99 tokens, less than one window of 100"):
        window_starts(99, length=100, seed=0, step=0, batch_size=1)
    with pytest.raises(ValueError, match="whole number of 4-token chunks"):
        window_starts(99, length=10, seed=0, step=0, batch_size=1, align=4)
    with pytest.raises(DataError, match="nothing to train on"):
        CropOrder([], crop=10, seed=0).crops(0, batch_size=1)


def test_crops_lie_inside_and_take_long_utterances_more_often() -> None:
    lengths = [5, 100, 1000, 101]
    order = CropOrder(lengths, crop=100, seed=4)
    assert order.crops_per_epoch == 1 + 1 + 10 + 2
    crops = [crop for step in range(7) for crop in order.crops(step, batch_size=2)]
    assert [sum(crop.utterance == i for crop in crops) for i in range(4)] == [1, 1, 10, 2]
    many = [crop for step in range(300) for crop in order.crops(step, batch_size=4)]
    for crop in many:
        assert 0 <= crop.start <= max(0, lengths[crop.utterance] - 100)
    starts = np.array([crop.start for crop in many if crop.utterance == 2])
    assert starts.min() < 50
    assert starts.max() > 850
    assert 400 < starts.mean() < 500
    assert order.crops(200, batch_size=4) == CropOrder(lengths, crop=100, seed=4).crops(200, batch_size=4)
    divided = [order.crops(9, batch_size=2, rank=rank, world_size=2) for rank in (0, 1)]
    assert divided[0] + divided[1] == order.crops(9, batch_size=4)
