import numpy as np
import pytest

from wavslm_core.data.batches import Batching, CropOrder, batch_items, length_batches, permute, spread
from wavslm_core.errors import DataError, RecipeError


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
        whole = Batching(micro_batch_size=8, seed=5).places(step)
        parts = [
            Batching(micro_batch_size=8, seed=5, rank=rank, world_size=world_size).places(step)
            for rank in range(world_size)
        ]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_batches_that_cannot_be_divided_say_what_can() -> None:
    message = r"batch_size is 16 over .* in 2 micro-batches of 8, which 3 processes .* choose batch_size 18"
    with pytest.raises(RecipeError, match=message):
        Batching(micro_batch_size=8, accumulate=2, seed=5, world_size=3)


def test_micro_batches_divide_a_step() -> None:
    whole = Batching(micro_batch_size=8, seed=5).places(3)
    divided = Batching(micro_batch_size=2, seed=5, accumulate=4)
    np.testing.assert_array_equal(np.concatenate([divided.places(3, micro) for micro in range(4)]), whole)


def test_the_order_does_not_depend_on_history() -> None:
    def at(step: int) -> list[int]:
        places = Batching(micro_batch_size=4, seed=9).places(step)
        return batch_items(places, size=10**10, seed=9).tolist()

    later = at(123_456)
    for step in range(3):
        at(step)
    assert at(123_456) == later
    assert at(123_457) != later


def test_an_epoch_takes_every_item_once_even_across_steps() -> None:
    batching = Batching(micro_batch_size=8, seed=1)
    items = np.concatenate([batch_items(batching.places(step), size=30, seed=1) for step in range(15)])
    for epoch in range(4):
        assert sorted(items[30 * epoch : 30 * (epoch + 1)]) == list(range(30))
    assert items[:30].tolist() != items[30:60].tolist()


def test_nothing_to_train_on_is_an_error() -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        CropOrder([], crop=10, batching=Batching(micro_batch_size=1, seed=0)).crops(0)


def test_crops_lie_inside_and_take_long_utterances_more_often() -> None:
    lengths = [5, 100, 1000, 101]

    def order(batch_size: int, **options: int) -> CropOrder:
        return CropOrder(lengths, crop=100, batching=Batching(micro_batch_size=batch_size, seed=4, **options))

    assert order(2).crops_per_epoch == 1 + 1 + 10 + 2
    crops = [crop for step in range(7) for crop in order(2).crops(step)]
    assert [sum(crop.utterance == i for crop in crops) for i in range(4)] == [1, 1, 10, 2]
    many = [crop for step in range(300) for crop in order(4).crops(step)]
    for crop in many:
        assert 0 <= crop.start <= max(0, lengths[crop.utterance] - 100)
    starts = np.array([crop.start for crop in many if crop.utterance == 2])
    assert starts.min() < 50
    assert starts.max() > 850
    assert 400 < starts.mean() < 500
    divided = [order(4, rank=rank, world_size=2).crops(9) for rank in (0, 1)]
    assert divided[0] + divided[1] == order(4).crops(9)


def test_crops_start_on_whole_units() -> None:
    batching = Batching(micro_batch_size=50, seed=4)
    crops = CropOrder([403, 39, 40], crop=40, batching=batching, unit=4).crops(0)
    assert all(crop.start % 4 == 0 for crop in crops)
    # The last crop may be cut short by the part of a unit at the utterance's end.
    assert max(crop.start for crop in crops if crop.utterance == 0) <= 364
    assert {crop.start for crop in crops if crop.utterance > 0} == {0}


@pytest.mark.parametrize("shortest", [0, 12, 10**9])
def test_crops_are_numbered_as_counting_one_by_one_does(shortest: int) -> None:
    lengths = np.random.default_rng(0).integers(0, 200, 1025)
    order = CropOrder(lengths, crop=50, batching=Batching(micro_batch_size=1, seed=0), shortest=shortest)
    owners = [
        utterance
        for utterance, length in enumerate(lengths.tolist())
        if length >= shortest
        for _ in range(max(1, -(-length // 50)))
    ]
    assert order.crops_per_epoch == len(owners)
    numbers = np.random.default_rng(0).permutation(len(owners))
    np.testing.assert_array_equal(order.utterances(numbers), np.asarray(owners, np.int64)[numbers])


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
