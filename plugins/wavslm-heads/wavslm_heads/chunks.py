"""What all heads share: which places are predicted, and what stands in those that are not.

Suffixes: B batch, T tokens, C chunk, N = B · chunks, D width of the backbone, E width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from wavslm_core.plugin import valid_mask


def predicted_chunks(tokens: int, chunk: int) -> int:
    """Return how many chunks have one before them; a ragged last one counts."""
    return max(0, -(-tokens // chunk) - 1)


def with_first_chunk(predicted_BT: Tensor, tokens_BT: Tensor, lengths: Tensor | None) -> Tensor:
    """Put NaN before predictions, to the size of `tokens_BT`, and in padded places."""
    size = tokens_BT.shape[1]
    result_BT = F.pad(predicted_BT, (size - predicted_BT.shape[1], 0), value=torch.nan)
    if lengths is None:
        return result_BT
    return result_BT.masked_fill(~valid_mask(lengths, size), torch.nan)


def nothing_predicted(tokens_BT: Tensor) -> Tensor:
    """Return (B,T) float32 of NaN."""
    return torch.full(tokens_BT.shape, torch.nan, dtype=torch.float32, device=tokens_BT.device)
