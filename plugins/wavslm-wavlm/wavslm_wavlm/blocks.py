"""Which keys each block of queries reads, worked out once per forward pass and shared by all layers.

Queries are processed in blocks of a few dozen, each against only the keys that its window reaches: time
and memory grow linearly with length. Short batches of few heads go through in one group of items; large
ones in several, so that a block's scores stay in the processor's cache.

Query i sees keys start ≤ j < end with end = min(⌊(i+C)/C⌋·C, length) and start = max(0, end − W).

Blocks are cut by numbers that Python knows. While torch traces a graph it may not know any, and the graph
shall serve other sizes too: then there is one mask over everything, and memory grows with the square of the
length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK_ROWS = 64
"""Queries per block: fewer make matrix products slow, more compute scores outside of the window."""
SCORE_BYTES = 4 << 20
"""Bound on the scores of a block over a group of items, fp32."""


@dataclass(frozen=True)
class Reach:
    """How far attention sees: chunks of C and a window of W, or everything."""

    chunk: int = 1
    window: int | None = None
    """None: full context."""


@dataclass(frozen=True)
class Block:
    """Queries `start`…`stop` of items `first`…`last` against keys `key_start`…`key_stop` (ends excluded)."""

    first: int
    last: int
    start: int
    stop: int
    key_start: int
    key_stop: int
    mask: Tensor | None
    """0 where visible, −inf elsewhere: (Q,K), or (items,1,Q,K) when lengths differ; None: all visible."""


@dataclass(frozen=True)
class Plan:
    """Every block of a pass. `before` and `after`: how far bias tables reach around a block's first row."""

    blocks: tuple[Block, ...]
    rows: int
    before: int
    after: int


def make_plan(reach: Reach, *, lengths: Sequence[int], size: int, heads: int, device: torch.device) -> Plan:
    """Plan attention over a padded batch of `len(lengths)` items of `size` places."""
    rows = min(size, max(1, BLOCK_ROWS // reach.chunk) * reach.chunk)
    before, after = (size, size) if reach.window is None else (reach.window, rows)
    columns = min(size, before + after)
    group = max(1, SCORE_BYTES // (4 * heads * max(1, rows * columns)))
    band = None if reach.window is None else _band(reach.chunk, reach.window, rows, before, after, device)
    blocks: list[Block] = []
    for first in range(0, len(lengths), group):
        members = lengths[first : first + group]
        for start in range(0, max(members), rows):
            stop = min(start + rows, size)
            if band is None:
                keys = _all_keys(members, stop - start, device)
            else:
                keys = _window_keys(reach, members, start, stop, band, before, device)
            blocks.append(Block(first, first + len(members), start, stop, *keys))
    return Plan(tuple(blocks), rows, before, after)


@dataclass(frozen=True)
class Whole:
    """What a traced pass reads instead of a plan."""

    mask: Tensor
    """0 where visible, −inf elsewhere: (items,1,T,T), or (1,1,T,T) where all items are alike."""


def whole_mask(reach: Reach, *, lengths: Tensor | None, size: int, device: torch.device) -> Whole:
    """Return what every query of a batch (B, size) sees; `lengths` (B,) int64."""
    keys = torch.arange(size, device=device)
    queries = keys[:, None]
    ends = torch.full_like(queries, size)
    if reach.window is not None:
        ends = ((queries // reach.chunk + 1) * reach.chunk).clamp(max=size)
    ends = ends[None, None]
    if lengths is not None:
        length = lengths.to(device)[:, None, None, None]
        # As in the blocks: no row is empty, and nothing becomes NaN.
        visible = length.clamp(min=1) if reach.window is None else length
        seen = torch.minimum(ends, visible)
        ends = seen if reach.window is None else torch.where(queries < length, seen, ends)
    hidden = keys >= ends
    if reach.window is not None:
        hidden = hidden | (keys < ends - reach.window)
    return Whole(_additive(hidden))


def _all_keys(lengths: Sequence[int], rows: int, device: torch.device) -> tuple[int, int, Tensor | None]:
    """Return first key, end of keys and mask for queries that see every valid place."""
    key_stop = max(lengths)
    if min(lengths) == key_stop:
        return 0, key_stop, None
    keys = torch.arange(key_stop, device=device)
    # An empty item sees its first place, so that no row is empty and nothing becomes NaN.
    hidden = keys >= torch.tensor(lengths, device=device).clamp(min=1)[:, None, None, None]
    return 0, key_stop, _additive(hidden.expand(-1, 1, rows, -1))


def _window_keys(
    reach: Reach,
    lengths: Sequence[int],
    start: int,
    stop: int,
    band: Tensor,
    before: int,
    device: torch.device,
) -> tuple[int, int, Tensor]:
    """Return first key, end of keys and mask for queries that see the window of their chunk."""
    chunk, window = reach.chunk, reach.window
    assert window is not None
    # Only an item that ends inside a chunk of this block departs from the usual band.
    if not any(length % chunk and start <= length // chunk * chunk < stop for length in lengths):
        key_start = max(0, start + chunk - window)
        column = key_start - start + before
        return key_start, stop, band[: stop - start, column : column + stop - key_start]
    key_start = max(0, start + 1 - window)
    queries = torch.arange(start, stop, device=device)[:, None]
    keys = torch.arange(key_start, stop, device=device)
    length = torch.tensor(lengths, device=device)[:, None, None, None]
    end = (queries // chunk + 1) * chunk
    # Padded queries see their full chunk, so that no row is empty and nothing becomes NaN.
    end = torch.where(queries < length, end.minimum(length), end)
    return key_start, stop, _additive((keys >= end) | (keys < end - window))


def _band(chunk: int, window: int, rows: int, before: int, after: int, device: torch.device) -> Tensor:
    """Return the mask (rows, before + after) of a block of whole chunks, keys counted from −before."""
    keys = torch.arange(-before, after, device=device)
    end = (torch.arange(rows, device=device)[:, None] // chunk + 1) * chunk
    return _additive((keys >= end) | (keys < end - window))


def _additive(hidden: Tensor) -> Tensor:
    return torch.zeros(hidden.shape, device=hidden.device).masked_fill(hidden, -torch.inf)
