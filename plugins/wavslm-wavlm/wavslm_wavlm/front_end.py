"""From samples to the input of the transformer layers: convolutions and the positional convolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.interfaces import State
from wavslm_core.streaming import CausalConv1d, StateReader, join_states
from wavslm_wavlm.config import SAMPLE_RATE_HZ, WavLMConfig
from wavslm_wavlm.convolution import ConvBlock, TimeNorm
from wavslm_wavlm.filterbank import BIAS, filterbank

FEW_FRAMES = 32
"""Up to this many frames, the positional convolution is a product with the weights as they lie in memory."""


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

    def __init__(self, config: WavLMConfig) -> None:
        super().__init__()
        self.conv = CausalConv1d(config.dim, config.dim, config.conv_pos, groups=config.conv_pos_groups)
        self.causal = config.causal

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Map (B,T,D), zero in padded places unless causal, to (B,T,D)."""
        x_BDT = x_BTD.mT
        if self.causal:
            return F.gelu(self.conv(x_BDT).mT)
        (kernel,) = self.conv.kernel_size
        # Padded by kernel // 2 on both sides; an even kernel's last frame is dropped, so it is not computed.
        padded = F.pad(x_BDT, (kernel // 2, (kernel - 1) // 2))
        convolved = F.conv1d(padded, self.conv.weight, self.conv.bias, groups=self.conv.groups)
        return F.gelu(convolved.mT)

    state_tensors = CausalConv1d.state_tensors

    def init_state(self, batch_size: int) -> State:
        return self.conv.init_state(batch_size)

    def step(self, x_BND: Tensor, state: State) -> tuple[Tensor, State]:
        """Map the next frames (B,N,D) to (B,N,D)."""
        batch, frames, _ = x_BND.shape
        if batch * frames > FEW_FRAMES:
            convolved_BDN, state = self.conv.step(x_BND.mT, state)
            return F.gelu(convolved_BDN.mT), state
        cache, position = state
        x_BDN = x_BND.mT
        if position.item() == 0:
            cache = x_BDN[..., :1].expand(-1, -1, self.conv.context)
        joined = torch.cat([cache, x_BDN], dim=-1)
        # A convolution call lays out its weights anew each time, which costs more than the sum itself.
        groups, (kernel,) = self.conv.groups, self.conv.kernel_size
        rows = joined.unflatten(1, (groups, -1)).unfold(-1, kernel, 1).permute(1, 0, 3, 2, 4)
        matrices = self.conv.weight.unflatten(0, (groups, -1)).flatten(2)
        products = torch.bmm(rows.flatten(3).flatten(1, 2), matrices.mT).unflatten(1, (batch, frames))
        convolved = products.permute(1, 2, 0, 3).flatten(2)
        if self.conv.bias is not None:
            convolved = convolved + self.conv.bias
        new_cache = joined[..., frames:].clone()
        return F.gelu(convolved), (new_cache, position + frames)
