"""Which data a step sees, as a pure function of (seed, step, rank, world size): nothing to resume.

Every epoch is a keyed permutation computed element by element, so that an order over billions of windows
costs no memory. All ranks together take `batch_size · world_size` consecutive places of the order at each
step and each takes its own part: the set of places depends on the size of the global batch only, not on how
it is divided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wavslm_core.errors import DataError

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


def batch_items(
    size: int, *, seed: int, step: int, batch_size: int, rank: int = 0, world_size: int = 1
) -> tuple[IntArray, IntArray]:
    """Return items in [0, size) and their epochs, both (batch_size,); an epoch takes every item once."""
    if size <= 0:
        raise DataError("there is nothing to train on: the split holds no item")
    places = batch_places(step, batch_size=batch_size, rank=rank, world_size=world_size)
    epochs, within = np.divmod(places, size)
    items = np.empty_like(within)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        items[chosen] = permute(within[chosen], size=size, seed=seed, epoch=int(epoch))
    return items, epochs


def windows_per_epoch(total_tokens: int, *, length: int, align: int = 1) -> int:
    """Return how many windows an epoch of `window_starts` takes.

    Raises: DataError when the stream is shorter than one window; ValueError when `length` is not a multiple
    of `align`.
    """
    if length % align:
        raise ValueError(f"windows of {length} tokens are not a whole number of {align}-token chunks")
    if total_tokens < length:
        raise DataError(
            f"the split holds {total_tokens} tokens, less than one window of {length}; "
            "take shorter windows or more data"
        )
    return max(1, total_tokens // length - 1)


def window_starts(
    total_tokens: int,
    *,
    length: int,
    seed: int,
    step: int,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    align: int = 1,
) -> IntArray:
    """Return where windows of `length` tokens start, (batch_size,), each a multiple of `align`.

    Windows of one epoch do not overlap and lie on a grid; each epoch shifts the grid by another amount, up
    to a window, and so leaves out fewer than two windows' worth of tokens at the ends.
    """
    count = windows_per_epoch(total_tokens, length=length, align=align)
    items, epochs = batch_items(
        count, seed=seed, step=step, batch_size=batch_size, rank=rank, world_size=world_size
    )
    shifts = (total_tokens - count * length) // align + 1
    shift = (mix(epochs.astype(np.uint64), seed, 1) % np.uint64(min(shifts, length // align + 1))).astype(
        np.int64
    )
    return items * length + shift * align


@dataclass(frozen=True)
class Crop:
    """A piece of an utterance."""

    utterance: int
    start: int


class CropOrder:
    """Random crops of utterances: long utterances are taken more often, each at random places.

    `lengths` and `crop` count samples at one rate. An epoch takes ⌈length / crop⌉ crops of each utterance;
    one that is shorter than a crop is taken whole.
    """

    def __init__(self, lengths: Sequence[int] | IntArray, *, crop: int, seed: int) -> None:
        if crop <= 0:
            raise ValueError(f"crops of {crop} samples")
        self._lengths = np.asarray(lengths, np.int64)
        self._crop = crop
        self._seed = seed
        self._ends = np.cumsum(np.maximum(1, -(-self._lengths // crop)))

    @property
    def crops_per_epoch(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def crops(self, step: int, *, batch_size: int, rank: int = 0, world_size: int = 1) -> list[Crop]:
        """Return the crops of a rank at a step. Raises: DataError when there are no utterances."""
        items, _ = batch_items(
            self.crops_per_epoch,
            seed=self._seed,
            step=step,
            batch_size=batch_size,
            rank=rank,
            world_size=world_size,
        )
        utterances = np.searchsorted(self._ends, items, side="right")
        places = batch_places(step, batch_size=batch_size, rank=rank, world_size=world_size)
        room = np.maximum(0, self._lengths[utterances] - self._crop) + 1
        starts = mix(places.astype(np.uint64), self._seed, 2) % room.astype(np.uint64)
        return [Crop(int(utterance), int(start)) for utterance, start in zip(utterances, starts, strict=True)]
