"""Lengths of padded batches: masks, and what padding must not touch."""

from __future__ import annotations

import torch
from torch import Tensor


def valid_mask(lengths: Tensor, size: int) -> Tensor:
    """Return (B, size) bool, True where a place holds something valid."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def zero_padding(x_BTD: Tensor, lengths: Tensor | None) -> Tensor:
    """Return (B,T,D) with zeros in padded places; the input itself when there are no lengths."""
    if lengths is None:
        return x_BTD
    return x_BTD.masked_fill(~valid_mask(lengths, x_BTD.shape[1])[..., None], 0.0)
