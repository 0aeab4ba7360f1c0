"""Changing the frame rate: kernel = stride = factor, so each is a matrix product on frames side by side.

Parameters keep the shapes of `Conv1d` and `ConvTranspose1d`, as in the official files.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.plugin import PackLinear, zero_padding


class Snake(nn.Module):
    """x + sin²(αx) / α with one α per channel (Ziyin et al. 2020)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(dim, 1))

    def forward(self, x_BTD: Tensor) -> Tensor:
        alpha_D = self.alpha[:, 0]
        return x_BTD + torch.sin(alpha_D * x_BTD).square() / (alpha_D + 1e-9)


class MergeFrames(nn.Conv1d):
    """(B, T·factor, D_in) to (B,T,D_out); factor 1 is a linear layer with a convolution's shape."""

    def __init__(self, in_channels: int, out_channels: int, factor: int = 1) -> None:
        super().__init__(in_channels, out_channels, factor, stride=factor)
        self.packed: nn.Module | None = None

    def pack_weights(self, pack: PackLinear) -> None:
        self.packed = pack(self.weight.flatten(1), self.bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        factor = self.kernel_size[0]
        if factor > 1:
            x_BTD = x_BTD.unflatten(1, (-1, factor)).transpose(2, 3).flatten(2)
        if self.packed is not None:
            return self.packed(x_BTD)
        return F.linear(x_BTD, self.weight.flatten(1), self.bias)


class SplitFrames(nn.ConvTranspose1d):
    """(B,T,D_in) to (B, T·factor, D_out)."""

    def __init__(self, in_channels: int, out_channels: int, factor: int) -> None:
        super().__init__(in_channels, out_channels, factor, stride=factor)
        self.packed: nn.Module | None = None

    def pack_weights(self, pack: PackLinear) -> None:
        self.packed = pack(self.weight.flatten(1).T.contiguous(), None)

    def forward(self, x_BTD: Tensor, output_size: list[int] | None = None) -> Tensor:
        factor = self.kernel_size[0]
        y_BTE = x_BTD @ self.weight.flatten(1) if self.packed is None else self.packed(x_BTD)
        if factor > 1:
            y_BTE = y_BTE.unflatten(2, (-1, factor)).transpose(2, 3).flatten(1, 2)
        return y_BTE if self.bias is None else y_BTE + self.bias


class DownScale(nn.Module):
    """Merge `factor` frames into one, then Snake. The last group is completed with zeros."""

    def __init__(self, in_dim: int, out_dim: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.downscale = MergeFrames(in_dim, out_dim, factor)
        self.activation = Snake(out_dim)

    def forward(self, x_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Map (B,T,D_in) to (B, ⌈T / factor⌉, D_out)."""
        if self.factor > 1:
            x_BTD = F.pad(zero_padding(x_BTD, lengths), (0, 0, 0, -x_BTD.shape[1] % self.factor))
        return self.activation(self.downscale(x_BTD))


class UpScale(nn.Module):
    """Snake, then make `factor` frames of each."""

    def __init__(self, in_dim: int, out_dim: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.activation = Snake(in_dim)
        self.upscale = SplitFrames(in_dim, out_dim, factor)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Map (B,T,D_in) to (B, T·factor, D_out)."""
        return self.upscale(self.activation(x_BTD))
