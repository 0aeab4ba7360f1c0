"""Which items go into one padded batch: neighbours in length, bounded in size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike


def length_batches(lengths: ArrayLike, *, budget: int) -> Iterator[list[int]]:
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
