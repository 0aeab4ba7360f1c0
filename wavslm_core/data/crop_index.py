"""Which utterance the n-th crop of an epoch falls into, for any number of utterances in next to no memory.

Only how many crops come before every thousandth utterance is kept (8 bytes a thousand); the rest is counted
when it is asked for, from lengths that may be memory-mapped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

_BLOCK = 1024
_PASS = 1024 * _BLOCK
"""Utterances that are looked at at once when the index is made."""


@runtime_checkable
class Lengths(Protocol):
    """How long utterances are, told for some neighbours at a time."""

    def __len__(self) -> int: ...

    def lengths_of(self, first: int, last: int) -> IntArray:
        """Return the lengths of utterances `first` to `last - 1`."""


@dataclass(frozen=True)
class KnownLengths:
    """`Lengths` in memory."""

    lengths: IntArray

    def __len__(self) -> int:
        return len(self.lengths)

    def lengths_of(self, first: int, last: int) -> IntArray:
        return self.lengths[first:last]


class CropIndex:
    """Crops of utterances, numbered in order: ⌈length / crop⌉ of each, none of those that are too short."""

    def __init__(self, lengths: Lengths, *, crop: int, shortest: int = 0) -> None:
        """An utterance shorter than `crop` counts as one crop; one shorter than `shortest` as none."""
        self._lengths = lengths
        self._crop, self._shortest = crop, shortest
        sums = [np.zeros(1, np.int64)]
        for first in range(0, len(lengths), _PASS):
            crops = self._crops(lengths.lengths_of(first, min(len(lengths), first + _PASS)))
            sums.append(np.add.reduceat(crops, np.arange(0, len(crops), _BLOCK)))
        self._ends = np.cumsum(np.concatenate(sums))

    def _crops(self, lengths: IntArray) -> IntArray:
        crops = np.maximum(1, -(-np.asarray(lengths, np.int64) // self._crop))
        crops[lengths < self._shortest] = 0
        return crops

    def __len__(self) -> int:
        return int(self._ends[-1])

    def locate(self, numbers: IntArray) -> tuple[IntArray, IntArray]:
        """Return the utterance that each crop is in, and that utterance's length, both (N,)."""
        blocks = np.searchsorted(self._ends, numbers, side="right") - 1
        utterances, found = np.empty_like(numbers), np.empty_like(numbers)
        for block in np.unique(blocks):
            chosen = blocks == block
            first = int(block) * _BLOCK
            lengths = self._lengths.lengths_of(first, min(len(self._lengths), first + _BLOCK))
            ends = self._ends[block] + np.cumsum(self._crops(lengths))
            places = np.searchsorted(ends, numbers[chosen], side="right")
            utterances[chosen], found[chosen] = first + places, lengths[places]
        return utterances, found
