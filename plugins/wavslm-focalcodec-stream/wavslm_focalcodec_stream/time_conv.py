"""Convolution over time on time-major tensors (B,T,D): offline, or causal over the ring of core.

Frames stay time-major from end to end: linears need no transposes, and a window of a time-major ring is
already what a channels-last convolution reads, so that a streaming step copies no cache. Measured for 1024
channels, kernel 512, 4 frames, one thread: 0.7 ms, against 1.9 ms for batched products and 2.1 ms for
grouped `conv1d` on a channel-major ring. Over whole sequences the long kernels go through the FFT: 500
frames, forward and backward, 34 ms against 324 ms.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.plugin import PIECE_FRAMES, CausalConv1d, PackLinear, Padding, zero_padding

FFT_KERNEL = 64
"""Depthwise kernels from this size on are convolved by FFT over whole sequences."""
STEP_FRAMES_HINT = 4
"""Frames per step that packed kernels are laid out for; other numbers work too."""
_UNIT_STRIDE = ([0, 0], [1, 1], [1, 1])
"""Padding, stride and dilation."""


class TimeConv(CausalConv1d):
    """Convolution of stride 1 over (B,T,D): causal, or "same" with zeros around each item.

    `groups` is 1 or the number of channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        groups: int = 1,
        causal: bool = True,
        left_padding: Padding = "replicate",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, groups=groups, left_padding=left_padding)
        self.causal = causal
        self.packed_depthwise: PackedDepthwise | None = None

    def pack_weights(self, pack: PackLinear) -> None:
        """Pack a dense kernel as the linear that steps use; lay a depthwise one out for oneDNN, in fp32."""
        if self.groups == 1:
            super().pack_weights(pack)
        else:
            frames = self.context + STEP_FRAMES_HINT
            self.packed_depthwise = PackedDepthwise(self.weight, self.bias, frames=frames)

    def forward(self, x_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Map (B,T,D_in) to (B,T,D_out); nothing beyond an item's length reaches its valid frames."""
        if self.causal:
            return super().forward(x_BTD)
        left = self.context // 2
        return self.convolve(F.pad(zero_padding(x_BTD, lengths), (0, 0, left, self.context - left)))

    def convolve(self, x_BTD: Tensor) -> Tensor:
        """Convolve without padding: (B, T+context, D_in) to (B,T,D_out)."""
        if self.groups == 1:
            return super().convolve(x_BTD)
        if self.kernel_size[0] >= FFT_KERNEL and x_BTD.shape[1] - self.context > PIECE_FRAMES:
            return depthwise_fft(x_BTD, self.weight, self.bias)
        if x_BTD.is_cpu and x_BTD.shape[0] > 1 and not x_BTD.is_contiguous():
            # Rings of several items are not one dense image: item by item, CPU convolutions need no copy.
            return torch.cat([self._depthwise(item) for item in x_BTD.split(1)])
        return self._depthwise(x_BTD)

    def _depthwise(self, x_BTD: Tensor) -> Tensor:
        image_BD1T = x_BTD.transpose(1, 2).unsqueeze(2)
        if self.packed_depthwise is not None:
            y_BD1T: Tensor = self.packed_depthwise(image_BD1T)
        else:
            y_BD1T = F.conv2d(image_BD1T, self.weight.unsqueeze(2), self.bias, groups=self.groups)
        return y_BD1T.squeeze(2).transpose(1, 2)


class PackedDepthwise(nn.Module):
    """A depthwise kernel (D,1,K) in oneDNN's blocked layout, for channels-last images (B,D,1,T+K−1)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, frames: int) -> None:
        super().__init__()
        self.channels = weight.shape[0]
        self.packed = torch.ops.mkldnn._reorder_convolution_weight(
            weight.detach().unsqueeze(2), *_UNIT_STRIDE, self.channels, [1, self.channels, 1, frames]
        )
        self.bias = None if bias is None else bias.detach()

    def forward(self, image_BD1T: Tensor) -> Tensor:
        y_BD1T: Tensor = torch.ops.mkldnn._convolution_pointwise(
            image_BD1T, self.packed, self.bias, *_UNIT_STRIDE, self.channels, "none", [], ""
        )
        return y_BD1T


def depthwise_fft(x_BTD: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve (B, T+K−1, D) with a depthwise kernel (D,1,K) without padding to (B,T,D), in fp32 at least."""
    frames = x_BTD.shape[1]
    exact = torch.promote_types(torch.promote_types(x_BTD.dtype, weight.dtype), torch.float32)
    size = _fast_fft_size(frames)
    spectrum_BDF = torch.fft.rfft(x_BTD.transpose(1, 2).to(exact), size)
    kernel_DF = torch.fft.rfft(weight[:, 0].to(exact), size)
    y_BDT = torch.fft.irfft(spectrum_BDF * kernel_DF.conj(), size)[..., : frames - weight.shape[-1] + 1]
    y_BTD = y_BDT.transpose(1, 2)
    return (y_BTD if bias is None else y_BTD + bias).to(x_BTD.dtype)


def _fast_fft_size(at_least: int) -> int:
    """Return the smallest 2ⁿ or 3·2ⁿ that is at least that."""
    power = 1 << (at_least - 1).bit_length()
    return power * 3 // 4 if power >= 4 and power * 3 // 4 >= at_least else power
