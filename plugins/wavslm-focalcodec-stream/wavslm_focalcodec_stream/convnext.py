"""The ConvNeXt backbone that all three decoders share, at the frame rate (Liu et al. 2022; Siuzdak 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wavslm_core.plugin import LinearGelu, Padding, State, StateReader, join_states
from wavslm_focalcodec_stream.decoder_config import ConvNeXtDecoderConfig
from wavslm_focalcodec_stream.time_conv import TimeConv

EPS = 1e-6


class ConvNeXtBlock(nn.Module):
    """x + γ · (depthwise convolution → LayerNorm → Linear → GELU → Linear)."""

    def __init__(
        self,
        dim: int,
        ffn_dim: int,
        kernel_size: int,
        *,
        layerscale_init: float,
        causal: bool,
        left_padding: Padding,
    ) -> None:
        super().__init__()
        self.dwconv = TimeConv(dim, dim, kernel_size, groups=dim, causal=causal, left_padding=left_padding)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.pwconv1 = LinearGelu(dim, ffn_dim)
        self.pwconv2 = nn.Linear(ffn_dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), layerscale_init))

    def forward(self, x_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return self._finish(x_BTD, self.dwconv(x_BTD, lengths=lengths))

    def step(self, x_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        y_BTD, state = self.dwconv.step(x_BTD, state)
        return self._finish(x_BTD, y_BTD), state

    def _finish(self, x_BTD: Tensor, y_BTD: Tensor) -> Tensor:
        return x_BTD + self.gamma * self.pwconv2(self.pwconv1(self.norm(y_BTD)))


class ConvNeXtBackbone(nn.Module):
    """(B,T,D_in) to (B,T,D), with zeros beyond an item's length and `left_padding` before a causal one."""

    def __init__(
        self, config: ConvNeXtDecoderConfig, *, causal: bool, left_padding: Padding = "zeros"
    ) -> None:
        super().__init__()
        dim = config.dim
        scale = config.layerscale_init if config.layerscale_init is not None else 1 / config.num_layers
        self.embedding = TimeConv(
            config.input_dim, dim, config.kernel_size, causal=causal, left_padding=left_padding
        )
        self.input_norm = nn.LayerNorm(dim, eps=EPS)
        self.blocks = [
            ConvNeXtBlock(
                dim,
                config.ffn_dim,
                config.kernel_size,
                layerscale_init=scale,
                causal=causal,
                left_padding=left_padding,
            )
            for _ in range(config.num_layers)
        ]
        self.layers = nn.ModuleList(self.blocks)
        self.output_norm = nn.LayerNorm(dim, eps=EPS)

    @property
    def state_tensors(self) -> int:
        return TimeConv.state_tensors * (1 + len(self.blocks))

    def forward(self, x_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        x_BTD = self.input_norm(self.embedding(x_BTD, lengths=lengths))
        for block in self.blocks:
            x_BTD = block(x_BTD, lengths=lengths)
        return self.output_norm(x_BTD)

    def init_state(self, batch_size: int) -> State:
        convs = [self.embedding, *(block.dwconv for block in self.blocks)]
        return join_states(*(conv.init_state(batch_size) for conv in convs))

    def step(self, x_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        reader = StateReader(state)
        x_BTD, embedding_state = self.embedding.step(x_BTD, reader.take(TimeConv.state_tensors))
        states = [embedding_state]
        x_BTD = self.input_norm(x_BTD)
        for block in self.blocks:
            x_BTD, block_state = block.step(x_BTD, reader.take(TimeConv.state_tensors))
            states.append(block_state)
        return self.output_norm(x_BTD), join_states(*states)
