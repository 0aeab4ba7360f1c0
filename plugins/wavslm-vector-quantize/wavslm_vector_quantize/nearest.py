"""The nearest code of each vector, without a table of all distances."""

from __future__ import annotations

import torch
from torch import Tensor

SCORES_AT_ONCE = 1 << 20
"""Distances that are held at a time: 4 MB."""


@torch.no_grad()
def nearest(rows_NK: Tensor, codes_CK: Tensor) -> Tensor:
    """Return the index of the code with the smallest Euclidean distance to each row, (N,) int64.

    Among equals the first. Codes of norm one: the one with the largest cosine.
    """
    rows_NK, codes_CK = rows_NK.float(), codes_CK.float()
    # |x - c|² orders codes as |c|²/2 - x·c does.
    half_norms_C = codes_CK.square().sum(dim=-1) / 2
    pieces = rows_NK.split(max(1, SCORES_AT_ONCE // len(codes_CK)))
    with torch.autocast(rows_NK.device.type, enabled=False):
        found = [torch.addmm(half_norms_C, piece_NK, codes_CK.mT, alpha=-1).argmin(-1) for piece_NK in pieces]
    return found[0] if len(found) == 1 else torch.cat(found)
