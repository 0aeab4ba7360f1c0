"""Which data a step sees, as a pure function of (seed, step, rank, world size): nothing to resume.

Every epoch is a keyed permutation computed element by element, so that an order over billions of items
costs no memory. All ranks together take consecutive places of the order at each step, a global batch, and
each takes its own part: what a batch holds does not depend on how many processes divide it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from wavslm_core.errors import DataError, RecipeError
from wavslm_core.machine.processes import uneven_batch

IntArray = npt.NDArray[np.int64]
_UintArray = npt.NDArray[np.uint64]

_ROUNDS = 6


def mix(values: npt.NDArray[np.uint64] | int, *keys: int) -> _UintArray:
    """Return 64 well-mixed bits for each value under the given keys (the finaliser of SplitMix64)."""
    mixed = np.atleast_1d(np.asarray(values, np.uint64))
    for key in (*keys, 0):
        # Addition and multiplication wrap around on purpose: they are modulo 2**64.
        mixed = mixed + np.uint64((key * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % (1 << 64))
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed


def permute(indices: IntArray, *, size: int, seed: int, epoch: int) -> IntArray:
    """Map indices in [0, size) one to one onto [0, size): a Feistel network with cycle walking.

    The network permutes the smallest power of four that holds `size`; what falls outside is sent through
    again.
    """
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    half = np.uint64(half_bits)
    mask = np.uint64((1 << half_bits) - 1)
    values = indices.astype(np.uint64)
    todo = np.arange(len(values))
    while len(todo):
        left, right = values[todo] >> half, values[todo] & mask
        for turn in range(_ROUNDS):
            left, right = right, left ^ (mix(right, seed, epoch, turn) & mask)
        values[todo] = (left << half) | right
        todo = todo[values[todo] >= size]
    return values.astype(np.int64)


def batch_places(step: int, *, batch_size: int, rank: int = 0, world_size: int = 1) -> IntArray:
    """Return the places (batch_size,) in the endless order that a rank takes at a step."""
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} of {world_size}")
    first = (step * world_size + rank) * batch_size
    return np.arange(first, first + batch_size, dtype=np.int64)


def batch_items(places: IntArray, *, size: int, seed: int) -> IntArray:
    """Return the items in [0, size) at places of the order, (batch_size,); an epoch takes every item once."""
    if size <= 0:
        raise DataError("there is nothing to train on: the split holds no item")
    epochs, within = np.divmod(places, size)
    items = np.empty_like(within)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        items[chosen] = permute(within[chosen], size=size, seed=seed, epoch=int(epoch))
    return items


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How a process takes its part of each step. Raises: RecipeError when the parts would differ in size."""

    micro_batch_size: int
    """Items of a micro-batch over all processes."""
    seed: int
    accumulate: int = 1
    """Micro-batches in a step."""
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        problem = uneven_batch(self.micro_batch_size, accumulate=self.accumulate, world_size=self.world_size)
        if problem:
            raise RecipeError(problem)

    @property
    def items(self) -> int:
        """How many items of a micro-batch are this process's."""
        return self.micro_batch_size // self.world_size

    def alone(self) -> Batching:
        """Return how one process would take all of it."""
        return replace(self, rank=0, world_size=1)

    def places(self, step: int, micro_batch: int = 0) -> IntArray:
        """Return the places (items,) in the order that this process takes for a micro-batch."""
        return batch_places(
            step * self.accumulate + micro_batch,
            batch_size=self.items,
            rank=self.rank,
            world_size=self.world_size,
        )


@dataclass(frozen=True)
class Crop:
    """A piece of an utterance."""

    utterance: int
    start: int


class CropOrder:
    """Random crops of utterances: long utterances are taken more often, each at random places.

    An epoch takes ⌈length / crop⌉ crops of each utterance; one that is shorter than a crop is taken whole.
    """

    def __init__(
        self,
        lengths: Sequence[int] | IntArray,
        *,
        crop: int,
        batching: Batching,
        unit: int = 1,
        shortest: int = 0,
    ) -> None:
        """`lengths`, `crop` and `shortest` count samples or tokens; crops start on multiples of `unit`.

        Utterances below `shortest` are not taken; one that is shorter than `crop` counts as one crop.
        """
        if crop <= 0:
            raise ValueError(f"crops of {crop} samples")
        self._crop = -(-crop // unit)
        self._unit = unit
        self._batching = batching
        self._lengths = np.asarray(lengths, np.int64)
        crops = np.maximum(1, -(-self._lengths // (self._crop * unit)))
        self._ends = np.cumsum(np.where(self._lengths < shortest, 0, crops))

    def with_batching(self, batching: Batching) -> CropOrder:
        """Return the same order, divided otherwise."""
        other = copy(self)
        other._batching = batching
        return other

    @property
    def crops_per_epoch(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def utterances(self, items: IntArray) -> IntArray:
        """Return the utterance that each item of an epoch is a crop of, (N,)."""
        return np.searchsorted(self._ends, items, side="right")

    def crops(self, step: int, micro_batch: int = 0) -> list[Crop]:
        """Return the crops of a micro-batch. Raises: DataError when there are no utterances."""
        places = self._batching.places(step, micro_batch)
        items = batch_items(places, size=self.crops_per_epoch, seed=self._batching.seed)
        utterances = self.utterances(items)
        room = np.maximum(0, -(-self._lengths[utterances] // self._unit) - self._crop) + 1
        starts = mix(places.astype(np.uint64), self._batching.seed, 2) % room.astype(np.uint64)
        return [
            Crop(int(utterance), int(start) * self._unit)
            for utterance, start in zip(utterances, starts, strict=True)
        ]


def length_batches(lengths: npt.ArrayLike, *, budget: int) -> Iterator[list[int]]:
    """Yield lists of indices, longest items first, each list padded to at most `budget` places.

    An item longer than the budget comes alone. The longest first: what does not fit in memory shows at once.
    """
    lengths_N = np.asarray(lengths, dtype=np.int64)
    batch: list[int] = []
    for index in np.argsort(-lengths_N, kind="stable").tolist():
        if batch and (len(batch) + 1) * int(lengths_N[batch[0]]) > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def spread(count: int, wanted: int | None) -> list[int]:
    """Return up to `wanted` of `count` indices, evenly spread, so that every speaker has a chance."""
    if wanted is None or wanted >= count:
        return list(range(count))
    return [index * count // wanted for index in range(wanted)]
