"""Rotary positions (Su et al. 2021) as complex numbers: a pair of numbers is one, a position is a factor.

The library computes angles in fp32: after ten minutes they are off by 0.001 rad, and a model cast to bf16
has its frequencies rounded. Here angles are fp64 and only their sines and cosines are rounded, so that what
a query and a key say to each other depends on their distance alone, wherever in a stream they are.
"""

import torch
from torch import Tensor


def rotation(start: int | Tensor, count: int, *, width: int, base: float, device: torch.device) -> Tensor:
    """Return the factors (count, width / 2) complex64 of positions `start`, `start` + 1, …

    `start` is a number, or a tensor () of one where steps are traced. Of those of rows, (B,), the factors are
    (B, count, width / 2).
    """
    # On the CPU unless `start` is elsewhere, since some devices have no fp64: a few thousand numbers for all
    # layers.
    where = start.device if isinstance(start, Tensor) else torch.device("cpu")
    place_P = torch.arange(0, width, 2, dtype=torch.float64, device=where)
    if isinstance(start, Tensor) and start.dim():
        start = start[:, None]
    position_T = start + torch.arange(count, dtype=torch.float64, device=where)
    angle_TP = position_T[..., None] * base ** (-place_P / width)
    return torch.polar(torch.ones_like(angle_TP), angle_TP).to(torch.complex64).to(device)


def rotate(x_BTHd: Tensor, rotation_TP: Tensor) -> Tensor:
    """Turn neighbouring pairs of (B,T,H,d) by factors (T,P) or (B,T,P); in fp32, same dtype back."""
    pairs_BTHP = torch.view_as_complex(x_BTHd.float().unflatten(-1, (-1, 2)))
    turned = torch.view_as_real(pairs_BTHP * rotation_TP[..., None, :]).flatten(-2)
    return turned.to(x_BTHd.dtype)
