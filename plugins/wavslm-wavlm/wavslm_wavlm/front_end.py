"""From samples to the input of the transformer layers: convolutions and the positional convolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.plugin import CausalConv1d, State, StateReader, join_states
from wavslm_wavlm.config import SAMPLE_RATE_HZ, WavLMConfig
from wavslm_wavlm.convolution import ConvBlock, TimeNorm
from wavslm_wavlm.filterbank import BIAS, filterbank


class FeatureExtractor(nn.Module):
    """Strided convolutions over the waveform."""

    def __init__(self, config: WavLMConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        in_channels = 1
        sizes = zip(config.hidden_dims, config.kernel_sizes, config.strides, strict=True)
        for index, (channels, kernel_size, stride) in enumerate(sizes):
            self.layers.append(
                ConvBlock(
                    in_channels,
                    channels,
                    kernel_size,
                    stride,
                    bias=config.conv_bias,
                    norm=_norm(config, index, channels),
                    causal=config.causal,
                    whole_stride=config.front_end_padding == "stride",
                )
            )
            in_channels = channels
        if config.front_end_init == "filterbank":
            # On the CPU whatever the model is on: sizes are read from tensors, which meta ones refuse.
            with torch.device("cpu"):
                bank = filterbank(
                    config.hidden_dims[0], config.kernel_sizes[0], sample_rate_hz=SAMPLE_RATE_HZ
                )
            first = self.layers[0]
            assert isinstance(first, ConvBlock)
            with torch.no_grad():
                first.conv.weight.copy_(bank)
                if first.conv.bias is not None:
                    first.conv.bias.normal_(std=BIAS)

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Return how many frames that many samples give (any shape, int64)."""
        for layer in self.layers:
            lengths = layer.frame_lengths(lengths)  # type: ignore[operator]
        return lengths

    def forward(self, waveform_BS: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Map (B,S) to (B, T, channels); `lengths` counts samples."""
        x_BTD = waveform_BS[..., None]
        for layer in self.layers:
            x_BTD = layer(x_BTD, lengths=lengths)
            if lengths is not None:
                lengths = layer.frame_lengths(lengths)  # type: ignore[operator]
        return x_BTD

    @property
    def state_tensors(self) -> int:
        return ConvBlock.state_tensors * len(self.layers)

    def init_state(self, batch_size: int) -> State:
        return join_states(*(layer.init_state(batch_size) for layer in self.layers))  # type: ignore[operator]

    def step(self, waveform_BS: Tensor, state: State) -> tuple[Tensor, State]:
        """Map the next (B, n·hop) samples to (B, n, channels)."""
        x_BTD = waveform_BS[..., None]
        reader = StateReader(state)
        states = []
        for layer in self.layers:
            x_BTD, new_state = layer.step(x_BTD, reader.take(ConvBlock.state_tensors))  # type: ignore[operator]
            states.append(new_state)
        return x_BTD, join_states(*states)


def _norm(config: WavLMConfig, index: int, channels: int) -> nn.Module | None:
    if config.front_end_norm == "layer":
        return nn.LayerNorm(channels)
    return TimeNorm(channels) if index == 0 else None


class PositionalEmbedding(nn.Module):
    """Grouped convolution over many frames, exact GELU: tells a frame where it is among its neighbours."""

    state_tensors = CausalConv1d.state_tensors

    def __init__(self, config: WavLMConfig) -> None:
        super().__init__()
        self.conv = CausalConv1d(config.dim, config.dim, config.conv_pos, groups=config.conv_pos_groups)
        self.causal = config.causal

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Map (B,T,D), zero in padded places unless causal, to (B,T,D)."""
        if self.causal:
            return F.gelu(self.conv(x_BTD))
        (kernel,) = self.conv.kernel_size
        # Padded by kernel // 2 on both sides; an even kernel's last frame is dropped, so it is not computed.
        return F.gelu(self.conv.convolve(F.pad(x_BTD, (0, 0, kernel // 2, (kernel - 1) // 2))))

    def init_state(self, batch_size: int) -> State:
        return self.conv.init_state(batch_size)

    def step(self, x_BND: Tensor, state: State) -> tuple[Tensor, State]:
        """Map the next frames (B,N,D) to (B,N,D)."""
        convolved_BND, state = self.conv.step(x_BND, state)
        return F.gelu(convolved_BND), state
