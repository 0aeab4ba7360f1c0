"""Runs of equal tokens as one token: nothing is lost, nothing depends on padding."""

from itertools import groupby

import pytest
import torch
from torch import Tensor

from wavslm_core.parts.lengths import merge_runs, split_runs

CODES = 5


def plain_tokens(max_run: int, *, seed: int = 0, batch: int = 6, size: int = 50) -> tuple[Tensor, Tensor]:
    """Return plain tokens (B,T) with runs of all lengths, rubbish where padded, and lengths, 0 among them."""
    random = torch.Generator().manual_seed(seed)
    codes = torch.randint(CODES, (batch, size), generator=random)
    repeats = torch.randint(2 * max_run + 2, (batch, size), generator=random)
    rows = [row.repeat_interleave(count)[:size] for row, count in zip(codes, repeats, strict=True)]
    tokens = torch.stack([torch.nn.functional.pad(row, (0, size - len(row)), value=1) for row in rows])
    lengths = torch.randint(1, size + 1, (batch,), generator=random)
    lengths[1] = 0
    return tokens * max_run, lengths


def by_hand(tokens: list[int], max_run: int) -> list[int]:
    merged = []
    for token, run in groupby(tokens):
        left = len(list(run))
        while left:
            merged.append(token + min(left, max_run) - 1)
            left -= min(left, max_run)
    return merged


@pytest.mark.parametrize("max_run", [2, 3, 8])
@pytest.mark.parametrize("seed", range(4))
def test_runs_are_merged_and_nothing_is_lost(max_run: int, seed: int) -> None:
    tokens, lengths = plain_tokens(max_run, seed=seed)
    merged, sizes = merge_runs(tokens, lengths, max_run=max_run)
    assert merged.shape[1] == int(sizes.max()) < int(lengths.max())
    for row, length in enumerate(lengths.tolist()):
        size = int(sizes[row])
        assert merged[row, :size].tolist() == by_hand(tokens[row, :length].tolist(), max_run)
        assert not merged[row, size:].any()
    again, counts = split_runs(merged, sizes, max_run=max_run)
    assert torch.equal(counts, lengths)
    for row, length in enumerate(lengths.tolist()):
        assert torch.equal(again[row, :length], tokens[row, :length])


def test_any_merged_tokens_split_one_by_one() -> None:
    merged = torch.randint(CODES * 4, (3, 20), generator=torch.Generator().manual_seed(0))
    whole, counts = split_runs(merged, torch.full((3,), 20), max_run=4)
    for row in range(3):
        pieces = [split_runs(token.view(1, 1), torch.ones(1), max_run=4)[0] for token in merged[row]]
        assert torch.equal(torch.cat(pieces, dim=1)[0], whole[row, : int(counts[row])])
        assert int(counts[row]) == int((merged[row] % 4 + 1).sum())


def test_nothing_at_all() -> None:
    tokens, lengths = torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    for function in (merge_runs, split_runs):
        merged, sizes = function(tokens, lengths, max_run=3)
        assert (merged.shape, sizes.tolist()) == ((2, 0), [0, 0])
