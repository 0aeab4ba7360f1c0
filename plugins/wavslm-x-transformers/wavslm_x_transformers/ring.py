"""Attention of a stream: the last W keys and values in rings that are written into and never moved.

Keys are rotated by their absolute positions before they are kept, so a ring needs no order: once a chunk's
own keys have taken the place of the oldest, the ring holds what the chunk sees, and no mask is needed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from wavslm_core.plugin import State
from wavslm_x_transformers.band import Band

STATE_TENSORS = 2
"""Keys and values."""


def init_ring(batch_size: int, *, window: int, kv_heads: int, head_dim: int, like: Tensor) -> State:
    """Return rings of keys (B,K,d,W) and values (B,K,W,d).

    Keys lie transposed: a chunk's product with the ring then reads memory in order.
    """
    return (
        like.new_zeros(batch_size, kv_heads, head_dim, window),
        like.new_zeros(batch_size, kv_heads, window, head_dim),
    )


@dataclass(frozen=True)
class Ring:
    """Where a step stands in the rings; the same for all layers."""

    position: int
    """Tokens that came before this step."""
    band: Band

    def attend(self, queries_BNGKd: Tensor, keys_BNKd: Tensor, values_BNKd: Tensor, state: State) -> Tensor:
        """Write whole chunks of keys and values into the rings; return what queries gather (B,N,G,K,d)."""
        keys_BKdW, values_BKWd = state
        groups, head_dim = queries_BNGKd.shape[2], queries_BNGKd.shape[4]
        queries_BKGNd = queries_BNGKd.permute(0, 3, 2, 1, 4) * head_dim**-0.5
        keys_BKdN, values_BKNd = keys_BNKd.permute(0, 2, 3, 1), values_BNKd.transpose(1, 2)
        outputs = []
        for start in range(0, queries_BNGKd.shape[1], self.band.chunk):
            stop = start + self.band.chunk
            self._write(keys_BKdW, keys_BKdN[..., start:stop], start)
            self._write(values_BKWd.mT, values_BKNd[:, :, start:stop].mT, start)
            filled = min(self.position + stop, self.band.window)
            rows = queries_BKGNd[:, :, :, start:stop].flatten(2, 3).flatten(0, 1)
            scores = torch.bmm(rows, keys_BKdW[..., :filled].flatten(0, 1))
            gathered = torch.bmm(scores.softmax(-1), values_BKWd[:, :, :filled].flatten(0, 1))
            outputs.append(gathered.view(*keys_BNKd.shape[0:1], -1, groups, self.band.chunk, head_dim))
        gathered_BKGNd = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=3)
        return gathered_BKGNd.permute(0, 3, 2, 1, 4)

    def _write(self, ring_BKdW: Tensor, chunk_BKdC: Tensor, offset: int) -> None:
        """Write a chunk over the oldest places, round the ring's end where need be."""
        slot = (self.position + offset) % self.band.window
        before_end = min(self.band.chunk, self.band.window - slot)
        ring_BKdW[..., slot : slot + before_end] = chunk_BKdC[..., :before_end]
        if before_end < self.band.chunk:
            ring_BKdW[..., : self.band.chunk - before_end] = chunk_BKdC[..., before_end:]
