"""Interpolated back-off models over sparse counts: Witten-Bell and modified Kneser-Ney, vectorised.

An event is a target token with K context tokens, nearest first. Which tokens those are is the caller's
business: the ones just before, or the last ones before a chunk. So one class gives ordinary n-grams and
n-grams at a distance. Level k predicts from the k nearest context tokens, each level interpolated with
the one below, level 0 being uniform: nothing ever has probability zero.

Counts are sorted int64 keys with `searchsorted`, so millions of tokens over 65 thousand codes need
seconds and a few hundred megabytes. Sources: Witten and Bell (1991), Chen and Goodman (1998).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Smoothing = Literal["witten_bell", "kneser_ney"]


@dataclass(frozen=True)
class _Level:
    """p(x | context) = share of the gram + weight of the context × p of the level below."""

    gram_keys: Ints
    gram_shares: Floats
    context_keys: Ints
    context_weights: Floats


class BackoffModel:
    """p(target | context), counted once. `vocab_size` itself is a legal context token: nothing there."""

    def __init__(self, targets_N: Ints, contexts_NK: Ints, *, vocab_size: int, smoothing: Smoothing) -> None:
        """Count N events. Raises: ValueError when there are none or the keys would not fit 63 bits."""
        if targets_N.size == 0:
            raise ValueError("an n-gram model needs at least one token to count")
        self.vocab_size = vocab_size
        self.order = contexts_NK.shape[1] + 1
        if (vocab_size + 1) ** self.order >= 2**63:
            raise ValueError(f"{self.order}-grams over {vocab_size} tokens do not fit 63-bit keys")
        keys, counts = np.unique(self._keys(targets_N, contexts_NK, self.order - 1), return_counts=True)
        count_level = _witten_bell if smoothing == "witten_bell" else _kneser_ney
        levels = [count_level(keys, counts, self._base)]
        for level in reversed(range(1, self.order)):
            keys, counts = self._shortened(keys, counts, level, distinct=smoothing == "kneser_ney")
            levels.append(count_level(keys, counts, self._base))
        self._levels = levels[::-1]

    def probabilities(self, targets_N: Ints, contexts_NK: Ints) -> Floats:
        """Return p (N,), each above zero."""
        p_N = np.full(targets_N.shape, 1.0 / self.vocab_size)
        for level, table in enumerate(self._levels):
            keys_N = self._keys(targets_N, contexts_NK, level)
            shares_N = _looked_up(table.gram_keys, table.gram_shares, keys_N, missing=0.0)
            weights_N = _looked_up(
                table.context_keys, table.context_weights, keys_N // self._base, missing=1.0
            )
            p_N = shares_N + weights_N * p_N
        return p_N

    @property
    def _base(self) -> int:
        return self.vocab_size + 1

    def _keys(self, targets_N: Ints, contexts_NK: Ints, level: int) -> Ints:
        """Return one integer per event; the target is the last digit, the farthest context the first."""
        keys_N = np.zeros(targets_N.shape, dtype=np.int64)
        for place in reversed(range(level)):
            keys_N = keys_N * self._base + contexts_NK[:, place]
        return keys_N * self._base + targets_N

    def _shortened(self, keys: Ints, counts: Ints, level: int, *, distinct: bool) -> tuple[Ints, Ints]:
        """Drop the farthest of `level` context tokens; add the counts up, or count the dropped ones."""
        unique, inverse = np.unique(keys % self._base**level, return_inverse=True)
        weights = np.ones_like(counts) if distinct else counts
        return unique, np.bincount(inverse, weights=weights).astype(np.int64)


def _contexts(keys: Ints, base: int) -> tuple[Ints, Ints]:
    """Return the distinct contexts of sorted gram keys and, for each gram, the index of its context."""
    context_keys, inverse = np.unique(keys // base, return_inverse=True)
    return context_keys, inverse


def _witten_bell(keys: Ints, counts: Ints, base: int) -> _Level:
    """A context followed by t kinds of token in n events leaves t / (n + t) to the level below."""
    context_keys, inverse = _contexts(keys, base)
    events = np.bincount(inverse, weights=counts)
    kinds = np.bincount(inverse)
    return _Level(keys, counts / (events + kinds)[inverse], context_keys, kinds / (events + kinds))


def _kneser_ney(keys: Ints, counts: Ints, base: int) -> _Level:
    """Absolute discounts, one each for grams seen once, twice and more often."""
    context_keys, inverse = _contexts(keys, base)
    events = np.bincount(inverse, weights=counts)
    discounts = _discounts(counts)[np.minimum(counts, 3)]
    weights = np.bincount(inverse, weights=discounts) / events
    return _Level(keys, (counts - discounts) / events[inverse], context_keys, weights)


def _discounts(counts: Ints) -> Floats:
    """Return discounts (4,) for counts 0 to 3 and more, estimated from counts of counts."""
    once, twice, thrice, four = (float(np.count_nonzero(counts == n)) for n in (1, 2, 3, 4))
    scale = once / (once + 2 * twice) if once else 0.5
    rich = np.array(
        [
            0.0,
            1 - 2 * scale * twice / once if once else 0.5,
            2 - 3 * scale * thrice / twice if twice else 1.0,
            3 - 4 * scale * four / thrice if thrice else 1.5,
        ]
    )
    # Small counts can give discounts outside the range that leaves every share positive.
    return np.clip(rich, [0.0, 0.1, 0.1, 0.1], [0.0, 0.95, 1.95, 2.95])


def _looked_up(sorted_keys: Ints, values: Floats, keys_N: Ints, *, missing: float) -> Floats:
    index_N = np.minimum(np.searchsorted(sorted_keys, keys_N), sorted_keys.size - 1)
    return np.where(sorted_keys[index_N] == keys_N, values[index_N], missing)
