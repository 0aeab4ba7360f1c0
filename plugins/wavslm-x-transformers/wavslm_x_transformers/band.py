"""Attention inside a band, over whole sequences: time and memory grow linearly with length.

Query i sees keys start ≤ j < end with end = min((⌊i/C⌋ + 1)·C, length) and start = max(0, end − W): those of
its chunk of C, and before them what a window of W reaches.

Queries are cut into blocks of R whose keys, R + W − C of them, are gathered side by side; blocks then are
items of one batch and share one mask of (R, R + W − C). The first window, whose keys begin at 0, is a block
of its own size; and where items end inside a chunk, these chunks alone are computed again. So no mask of
(T,T) or of (B,T,…) is ever made. Heads that share keys are rows of the same block: keys are not repeated.

G counts the groups, heads of queries per head of keys; K the heads of keys.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK_ROWS = 64
"""Queries per block: fewer copy keys more often, more compute scores outside of the window."""


@dataclass(frozen=True)
class Tail:
    """The last chunk of each item, for batches in which some end inside a chunk."""

    rows_BC: Tensor
    keys_BW: Tensor
    visible_BW: Tensor
    """Which of the keys are valid and not before the item's start."""


@dataclass(frozen=True)
class Band:
    """Where attention looks: chunks of C and a window of W."""

    chunk: int
    window: int

    @property
    def context(self) -> int:
        """Keys before its own chunk that a query sees."""
        return self.window - self.chunk

    @property
    def rows(self) -> int:
        """Queries per block, whole chunks."""
        return max(1, BLOCK_ROWS // self.chunk) * self.chunk

    @property
    def head(self) -> int:
        """Queries before the first block whose keys are all there."""
        return -(-self.context // self.rows) * self.rows

    def padded(self, size: int) -> int:
        """Return the places that `size` needs: whole chunks, and after the head whole blocks."""
        if size <= self.head:
            return -(-size // self.chunk) * self.chunk
        return self.head + -(-(size - self.head) // self.rows) * self.rows

    def mask(self, queries: int, keys: int, *, first_key: int, device: torch.device) -> Tensor:
        """Return (queries, keys) bool, True where visible; queries count from 0, keys from `first_key`."""
        key = torch.arange(first_key, first_key + keys, device=device)
        end = (torch.arange(queries, device=device)[:, None] // self.chunk + 1) * self.chunk
        return (key < end) & (key >= end - self.window)

    def tail(self, lengths: Tensor) -> Tail:
        """Return the last chunk of each item."""
        # An empty item sees its first place, so that no row is empty and nothing becomes NaN.
        length_B1 = lengths.clamp(min=1)[:, None]
        start_B1 = (length_B1 - 1) // self.chunk * self.chunk
        rows_BC = start_B1 + torch.arange(self.chunk, device=lengths.device)
        keys_BW = start_B1 - self.context + torch.arange(self.window, device=lengths.device)
        return Tail(rows_BC, keys_BW.clamp(min=0), (keys_BW >= 0) & (keys_BW < length_B1))


@dataclass(frozen=True)
class Plan:
    """The masks of a pass, made once and shared by all layers."""

    band: Band
    head_rows: int
    head_mask: Tensor
    """(G·head, head) bool."""
    block_mask: Tensor
    """(G·R, R + W − C) bool."""
    tail: Tail | None
    """None when all items end with a whole chunk."""


def make_plan(
    band: Band, *, size: int, groups: int, device: torch.device, lengths: Tensor | None = None
) -> Plan:
    """Plan attention over `band.padded(size)` places. `lengths` (B,): valid ones of each item; None: all."""
    # Asked of a number where there is one: export cannot look into tensors.
    if lengths is None:
        partial = size % band.chunk > 0
        lengths = torch.full((1,), size, device=device)
    else:
        partial = bool((lengths % band.chunk).any())
    head = min(band.padded(size), band.head)
    block_mask = band.mask(band.rows, band.rows + band.context, first_key=-band.context, device=device)
    return Plan(
        band,
        head,
        band.mask(head, head, first_key=0, device=device).repeat(groups, 1),
        block_mask.repeat(groups, 1),
        band.tail(lengths) if partial else None,
    )


def attend(queries_BTGKd: Tensor, keys_BTKd: Tensor, values_BTKd: Tensor, plan: Plan) -> Tensor:
    """Return what each query gathers, (B,T,G,K,d); T is the plan's padded size."""
    band, head, size = plan.band, plan.head_rows, queries_BTGKd.shape[1]
    pieces = []
    if head:
        pieces.append(
            _attend(queries_BTGKd[:, :head], keys_BTKd[:, :head], values_BTKd[:, :head], plan.head_mask)
        )
    if size > head:
        blocks = (size - head) // band.rows
        queries = queries_BTGKd[:, head:].unflatten(1, (blocks, band.rows)).flatten(0, 1)
        # Each key's numbers stay side by side: the fused kernel asks for that.
        keys, values = (
            x[:, head - band.context :]
            .unfold(1, band.rows + band.context, band.rows)
            .movedim(-1, 2)
            .flatten(0, 1)
            for x in (keys_BTKd, values_BTKd)
        )
        gathered = _attend(queries, keys, values, plan.block_mask)
        pieces.append(gathered.unflatten(0, (-1, blocks)).flatten(1, 2))
    gathered = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)
    if plan.tail is None:
        return gathered
    item_B1 = torch.arange(len(gathered), device=gathered.device)[:, None]
    last = _attend(
        queries_BTGKd[item_B1, plan.tail.rows_BC],
        keys_BTKd[item_B1, plan.tail.keys_BW],
        values_BTKd[item_B1, plan.tail.keys_BW],
        plan.tail.visible_BW[:, None, None],
    )
    return gathered.index_put((item_B1, plan.tail.rows_BC), last)


def _attend(queries_NQGKd: Tensor, keys_NSKd: Tensor, values_NSKd: Tensor, mask: Tensor) -> Tensor:
    """Attend over N items at once; `mask` is (G·Q, S), or (N,1,1,S) for one that differs by item."""
    groups = queries_NQGKd.shape[2]
    gathered = F.scaled_dot_product_attention(
        queries_NQGKd.permute(0, 3, 2, 1, 4).flatten(2, 3),
        keys_NSKd.transpose(1, 2),
        values_NSKd.transpose(1, 2),
        attn_mask=mask,
    )
    return gathered.unflatten(2, (groups, -1)).permute(0, 3, 2, 1, 4)
