"""The relative position bias as one value per head and distance, and as tables that attention slices.

The bias depends on key − query only. So it is looked up once per distance, (H, distances), and spread to a
(H, rows, distances) table for as many query rows as are processed together; every layer and every block of
queries reads slices of that one table.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def relative_buckets(offsets: Tensor, *, num_buckets: int, max_distance: int) -> Tensor:
    """Return the bucket of each key − query offset (any shape, int64).

    Half of the buckets are for keys after the query. Within a half, short distances have a bucket each,
    longer ones share logarithmically wider buckets, and all from `max_distance` on share the last (as in T5).
    """
    half = num_buckets // 2
    exact = half // 2
    distance = offsets.abs()
    ratio = torch.log(distance.clamp(min=exact).float() / exact) / math.log(max_distance / exact)
    wide = (exact + ratio * (half - exact)).long().clamp(max=half - 1)
    return torch.where(offsets > 0, half, 0) + torch.where(distance < exact, distance, wide)


def bias_by_offset(
    weight_NH: Tensor, *, first: int, last: int, num_buckets: int, max_distance: int
) -> Tensor:
    """Return the bias (H, last − first + 1) of the offsets `first`…`last` from the table (buckets, H)."""
    offsets = torch.arange(first, last + 1, device=weight_NH.device)
    buckets = relative_buckets(offsets, num_buckets=num_buckets, max_distance=max_distance)
    return F.embedding(buckets, weight_NH).T


def bias_table(
    weight_NH: Tensor, *, rows: int, before: int, after: int, num_buckets: int, max_distance: int
) -> Tensor:
    """Return (H, rows, before + after + 1): the bias between query row i and the key at column c.

    Column c stands for the key `c − before` places after row 0. Differentiable with respect to the weight.
    """
    bias_HN = bias_by_offset(
        weight_NH,
        first=-before - (rows - 1),
        last=after,
        num_buckets=num_buckets,
        max_distance=max_distance,
    )
    # Sliding windows over the offsets are the rows from the last to the first.
    return bias_HN.unfold(1, before + after + 1, 1).flip(1)


def whole_bias(weight_NH: Tensor, *, size: int, num_buckets: int, max_distance: int) -> Tensor:
    """Return (H, size, size): the bias between each query and each key, for any size that torch traces."""
    bias_HN = bias_by_offset(
        weight_NH, first=1 - size, last=size - 1, num_buckets=num_buckets, max_distance=max_distance
    )
    places = torch.arange(size, device=weight_NH.device)
    return bias_HN[:, places - places[:, None] + size - 1]
