"""Rows of different lengths in one batch: masks, what padding must not touch, and runs merged into one token.

A quantizer whose `facts.max_run` R is above 1 gives ids that are code · R + run − 1: a code, and for how many
tokens in a row it stands. Plain tokens, as `encode` gives them, are runs of one. Durations are thus in the
stream, where a language model learns them, and nothing is lost: a run longer than R becomes several tokens.
"""

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


def merge_runs(tokens_BT: Tensor, lengths: Tensor, *, max_run: int) -> tuple[Tensor, Tensor]:
    """Merge each run of equal plain tokens, from its start on in pieces of at most `max_run`.

    Returns tokens (B,U), zeros where padded, and how many each item has (B,).
    """
    size = tokens_BT.shape[1]
    places_T = torch.arange(size, device=tokens_BT.device)
    changes_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
    changes_BT[:, 1:] = tokens_BT[:, 1:] != tokens_BT[:, :-1]
    run_starts_BT = torch.where(changes_BT, places_T, 0).cummax(dim=1).values
    starts_BT = (places_T - run_starts_BT) % max_run == 0
    starts_BT &= valid_mask(lengths, size)
    rows_N, starts_N = starts_BT.nonzero(as_tuple=True)
    counts_B = starts_BT.sum(dim=1)
    # A piece ends where the next one of its row starts, the last one at the row's end.
    ends_N = starts_N.roll(-1)
    lasts_B = counts_B.cumsum(dim=0) - 1
    filled_B = counts_B > 0
    ends_N[lasts_B[filled_B]] = lengths.to(ends_N)[filled_B]
    merged_N = tokens_BT[rows_N, starts_N] + (ends_N - starts_N - 1)
    return _placed(merged_N, counts_B), counts_B


def split_runs(tokens_BU: Tensor, lengths: Tensor, *, max_run: int) -> tuple[Tensor, Tensor]:
    """Undo `merge_runs`: plain tokens (B,T), zeros where padded, and how many each item has (B,)."""
    valid_BU = valid_mask(lengths, tokens_BU.shape[1])
    runs_BU = (tokens_BU % max_run + 1) * valid_BU
    counts_B = runs_BU.sum(dim=1)
    plain_BU = tokens_BU - tokens_BU % max_run
    return _placed(plain_BU.flatten().repeat_interleave(runs_BU.flatten()), counts_B), counts_B


def _placed(tokens_N: Tensor, counts_B: Tensor) -> Tensor:
    """Return the tokens of all items, one after the other, as rows padded with zeros."""
    size = int(counts_B.max()) if len(counts_B) else 0
    placed = tokens_N.new_zeros(len(counts_B), size)
    placed[valid_mask(counts_B, size)] = tokens_N
    return placed
