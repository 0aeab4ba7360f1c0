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

    position: int | Tensor
    """Tokens that came before this step; a tensor where steps are traced, or (B,) of rows that differ."""
    band: Band

    def attend(
        self, queries_BNGKd: Tensor, keys_BNKd: Tensor, values_BNKd: Tensor, state: State
    ) -> tuple[Tensor, State]:
        """Write whole chunks of keys and values into the rings; return what queries gather, (B,N,G,K,d).

        And the rings: those given, unless the step is traced.
        """
        keys_BKdW, values_BKWd = state
        groups, head_dim = queries_BNGKd.shape[2], queries_BNGKd.shape[4]
        queries_BKGNd = queries_BNGKd.permute(0, 3, 2, 1, 4) * head_dim**-0.5
        keys_BKdN, values_BKNd = keys_BNKd.permute(0, 2, 3, 1), values_BNKd.transpose(1, 2)
        outputs = []
        for start in range(0, queries_BNGKd.shape[1], self.band.chunk):
            stop = start + self.band.chunk
            rows = queries_BKGNd[:, :, :, start:stop].flatten(2, 3).flatten(0, 1)
            if isinstance(self.position, Tensor) and self.position.dim():
                before_B1 = self.position[:, None] + start
                written_BC = ((before_B1 + torch.arange(self.band.chunk)) % self.band.window).to(rows.device)
                places = written_BC[:, None, None]
                keys_BKdW.scatter_(
                    3, places.expand(-1, *keys_BKdW.shape[1:3], -1), keys_BKdN[..., start:stop]
                )
                values_BKWd.scatter_(
                    2,
                    places.mT.expand(-1, values_BKWd.shape[1], -1, head_dim),
                    values_BKNd[:, :, start:stop],
                )
                filled = min(int(self.position.max()) + stop, self.band.window)
                empty_BW = torch.arange(filled) >= self.position[:, None] + stop
                # All heads of a row lie side by side.
                empty_W = empty_BW.to(rows.device).repeat_interleave(keys_BKdW.shape[1], dim=0)[:, None]
            elif isinstance(self.position, Tensor):
                slots = torch.arange(self.band.window, device=rows.device)
                written = (self.position + start + slots[: self.band.chunk]) % self.band.window
                keys_BKdW = keys_BKdW.index_copy(3, written, keys_BKdN[..., start:stop])
                values_BKWd = values_BKWd.index_copy(2, written, values_BKNd[:, :, start:stop])
                empty_W, filled = slots >= self.position + stop, self.band.window
            else:
                self._write(keys_BKdW, keys_BKdN[..., start:stop], self.position + start)
                self._write(values_BKWd.mT, values_BKNd[:, :, start:stop].mT, self.position + start)
                empty_W, filled = None, min(self.position + stop, self.band.window)
            scores = torch.bmm(rows, keys_BKdW[..., :filled].flatten(0, 1))
            if empty_W is not None:
                scores = scores.masked_fill(empty_W, -torch.inf)
            gathered = torch.bmm(scores.softmax(-1), values_BKWd[:, :, :filled].flatten(0, 1))
            outputs.append(gathered.view(*keys_BNKd.shape[0:1], -1, groups, self.band.chunk, head_dim))
        gathered_BKGNd = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=3)
        return gathered_BKGNd.permute(0, 3, 2, 1, 4), (keys_BKdW, values_BKWd)

    def _write(self, ring_BKdW: Tensor, chunk_BKdC: Tensor, position: int) -> None:
        """Write a chunk over the oldest places, round the ring's end where need be."""
        slot = position % self.band.window
        before_end = min(self.band.chunk, self.band.window - slot)
        ring_BKdW[..., slot : slot + before_end] = chunk_BKdC[..., :before_end]
        if before_end < self.band.chunk:
            ring_BKdW[..., : self.band.chunk - before_end] = chunk_BKdC[..., before_end:]
