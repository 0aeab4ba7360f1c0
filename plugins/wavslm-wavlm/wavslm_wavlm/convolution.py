"""Convolutions of the front end as matrix products over overlapping rows, channels last.

With channels last, a kernel that is no longer than its stride is one matrix product over a view of the input;
a longer one is cut into such pieces. Nothing is unfolded in memory, no layout is changed back and forth, and
the layer norm that follows finds its channels side by side.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.plugin import PackLinear, State, new_position, valid_mask

NARROW = 64
"""Below this many numbers under the kernel, one small unfolded copy beats several thin products."""
FEW_FRAMES = 1024
"""Up to this many outputs an item, packed weights unfold the input: a stream's few frames cost nothing."""


class FrontConv(nn.Conv1d):
    """A strided convolution over (B,T,D) without padding; parameters as in `nn.Conv1d`."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, *, bias: bool
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, bias=bias)
        # Stored with channels innermost, so that the matrices below are views. Shape and key stay the same.
        self.weight = nn.Parameter(self.weight.detach().transpose(1, 2).contiguous().transpose(1, 2))
        self.packed: nn.Module | None = None

    def pack_weights(self, pack: PackLinear) -> None:
        """Pack the kernel as one linear; bf16 here would double the error of bf16 features."""
        self.packed = pack.finer(self.weight.transpose(1, 2).flatten(1), self.bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Map (B, T, D_in) to (B, ⌊(T − kernel) / stride⌋ + 1, D_out); T is at least the kernel."""
        (kernel,), (stride,) = self.kernel_size, self.stride
        channels = self.in_channels
        frames = (x_BTD.shape[1] - kernel) // stride + 1
        if self.packed is not None and frames <= FEW_FRAMES:
            return self.packed(_rows(x_BTD, kernel, stride, frames))
        matrix = self.weight.transpose(1, 2).flatten(1)
        if kernel * channels <= NARROW:
            return F.linear(_rows(x_BTD, kernel, stride, frames), matrix, self.bias)
        output = None
        for start in range(0, kernel, stride):
            width = min(stride, kernel - start)
            rows = _rows(x_BTD[:, start:], width, stride, frames)
            piece = matrix[:, start * channels : (start + width) * channels]
            output = F.linear(rows, piece, self.bias) if output is None else output + F.linear(rows, piece)
        assert output is not None
        return output


def _rows(x_BTD: Tensor, width: int, stride: int, frames: int) -> Tensor:
    """Return (B, frames, width·D): what lies under the kernel at each stride."""
    return x_BTD.unfold(1, width, stride)[:, :frames].transpose(2, 3).flatten(2)


class TimeNorm(nn.Module):
    """Normalises each channel over an item's valid time (a group norm with one channel per group)."""

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.eps = eps

    def forward(self, x_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Map (B,T,D) to (B,T,D)."""
        if lengths is None:
            variance, mean = torch.var_mean(x_BTD, dim=1, keepdim=True, correction=0)
        else:
            mask_BT1 = valid_mask(lengths, x_BTD.shape[1])[..., None]
            count_B11 = lengths.clamp(min=1)[:, None, None]
            mean = x_BTD.masked_fill(~mask_BT1, 0.0).sum(1, keepdim=True) / count_B11
            squares = (x_BTD - mean).square().masked_fill(~mask_BT1, 0.0)
            variance = squares.sum(1, keepdim=True) / count_B11
        return (x_BTD - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias


class ConvBlock(nn.Module):
    """Convolution, norm and exact GELU over (B,T,D). State: the last `context` inputs and the position."""

    state_tensors = 2

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        *,
        bias: bool,
        norm: nn.Module | None,
        causal: bool,
        whole_stride: bool = False,
    ) -> None:
        """`whole_stride`: a causal output sees its stride to the end, not just the first input of it."""
        super().__init__()
        self.whole_stride = whole_stride
        self.conv = FrontConv(in_channels, out_channels, kernel_size, stride, bias=bias)
        self.norm = norm
        self.causal = causal

    @property
    def context(self) -> int:
        """How often the first input is repeated in front; as many of the last inputs a stream keeps."""
        (kernel,), (stride,) = self.conv.kernel_size, self.conv.stride
        return kernel - (stride if self.whole_stride else 1) if self.causal else 0

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Return how many outputs that many inputs give (any shape, int64)."""
        (kernel,), (stride,) = self.conv.kernel_size, self.conv.stride
        frames = (lengths + self.context - kernel) // stride + 1
        return torch.where(lengths > 0, frames.clamp(min=1), 0)

    def forward(self, x_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Map (B, T, D_in) to (B, T', D_out).

        Causal: the first input is repeated in front. An item that is too short even so is continued with
        zeros. `lengths` counts inputs.
        """
        (kernel,), context = self.conv.kernel_size, self.context
        # One input always is enough for a causal kernel that ends with it.
        if kernel - context > 1 and lengths is not None and bool((lengths + context < kernel).any()):
            x_BTD = x_BTD.masked_fill(~valid_mask(lengths, x_BTD.shape[1])[..., None], 0.0)
        if context:
            x_BTD = torch.cat([x_BTD[:, :1].expand(-1, context, -1), x_BTD], dim=1)
        if x_BTD.shape[1] < kernel:
            x_BTD = F.pad(x_BTD, (0, 0, 0, kernel - x_BTD.shape[1]))
        return self._finish(self.conv(x_BTD), None if lengths is None else self.frame_lengths(lengths))

    def init_state(self, batch_size: int) -> State:
        cache = self.conv.weight.new_zeros(batch_size, self.context, self.conv.in_channels)
        return cache, new_position()

    def step(self, x_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        """Map the next (B, n·stride, D_in) inputs to (B, n, D_out)."""
        cache, position = state
        traced = torch.compiler.is_compiling()
        start = x_BTD[:, :1].expand(-1, self.context, -1)
        if traced:
            before = torch.where(position == 0, start, cache)
        elif position.dim():
            before = torch.where((position == 0)[:, None, None].to(cache.device), start, cache)
        else:
            before = start if position.item() == 0 else cache
        joined = torch.cat([before, x_BTD], dim=1)
        kept = joined[:, joined.shape[1] - self.context :]
        cache = kept.clone() if traced else cache.copy_(kept)
        return self._finish(self.conv(joined), None), (cache, position + x_BTD.shape[1])

    def _finish(self, x_BTD: Tensor, lengths: Tensor | None) -> Tensor:
        if isinstance(self.norm, TimeNorm):
            x_BTD = self.norm(x_BTD, lengths=lengths)
        elif self.norm is not None:
            x_BTD = self.norm(x_BTD)
        return F.gelu(x_BTD)
