"""Focal blocks: modulation by context at growing reach, then a feed-forward layer (Yang et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.plugin import LinearGelu, State, StateReader, join_states, zero_padding
from wavslm_focalcodec_stream.config import FocalOptions
from wavslm_focalcodec_stream.scaling import MergeFrames
from wavslm_focalcodec_stream.time_conv import TimeConv


class TanhScale(nn.Module):
    """tanh(α·x) with one α: stands for LayerNorm where frames stream."""

    def __init__(self, initial: float) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1,), initial))

    def forward(self, x_BTD: Tensor) -> Tensor:
        return torch.tanh(self.alpha * x_BTD)


def make_norm(dim: int, options: FocalOptions, *, causal: bool) -> nn.Module:
    return TanhScale(options.tanhscale_init) if causal else nn.LayerNorm(dim)


class FocalLevel(nn.Sequential):
    """A depthwise convolution over time and GELU."""

    state_tensors = TimeConv.state_tensors

    def __init__(self, dim: int, kernel_size: int, *, causal: bool) -> None:
        super().__init__(TimeConv(dim, dim, kernel_size, groups=dim, causal=causal), nn.GELU())

    @property
    def conv(self) -> TimeConv:
        conv = self[0]
        assert isinstance(conv, TimeConv)
        return conv

    def forward(self, input: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return F.gelu(self.conv(input, lengths=lengths))

    def step(self, x_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        y_BTD, state = self.conv.step(x_BTD, state)
        return F.gelu(y_BTD), state


class FocalModulation(nn.Module):
    """query · context, the context gathered over levels by gates.

    The last level is global: offline the mean over an item's frames, causal a convolution over the last
    `window_size` frames.
    """

    def __init__(self, dim: int, options: FocalOptions, *, causal: bool, window_size: int) -> None:
        super().__init__()
        self.dim = dim
        self.gates = options.focal_level + 1
        self.causal = causal
        self.normalize_modulator = options.normalize_modulator
        kernel_sizes = [
            options.focal_window + options.focal_factor * level for level in range(options.focal_level)
        ]
        if causal:
            kernel_sizes.append(window_size)
        self.in_proj = nn.Linear(dim, 2 * dim + self.gates)
        self.layers = nn.ModuleList(FocalLevel(dim, size, causal=causal) for size in kernel_sizes)
        self.context_proj = MergeFrames(dim, dim)
        self.norm = make_norm(dim, options, causal=causal) if options.use_post_norm else None
        self.out_proj = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(options.dropout)

    @property
    def levels(self) -> list[FocalLevel]:
        return [layer for layer in self.layers if isinstance(layer, FocalLevel)]

    @property
    def state_tensors(self) -> int:
        return sum(level.state_tensors for level in self.levels)

    def forward(self, x_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        query_BTD, context_BTD, gates_BTL = self._project(x_BTD)
        contexts: list[Tensor] = []
        for level in self.levels:
            context_BTD = level(context_BTD, lengths=lengths)
            contexts.append(context_BTD)
        if not self.causal:
            contexts.append(F.gelu(mean_over_time(context_BTD, lengths)))
        return self._modulate(query_BTD, contexts, gates_BTL)

    def init_state(self, batch_size: int) -> State:
        return join_states(*(level.conv.init_state(batch_size) for level in self.levels))

    def step(self, x_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        query_BTD, context_BTD, gates_BTL = self._project(x_BTD)
        contexts: list[Tensor] = []
        states: list[State] = []
        reader = StateReader(state)
        for level in self.levels:
            context_BTD, level_state = level.step(context_BTD, reader.take(level.state_tensors))
            contexts.append(context_BTD)
            states.append(level_state)
        return self._modulate(query_BTD, contexts, gates_BTL), join_states(*states)

    def _project(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query_BTD, context_BTD, gates_BTL = self.in_proj(x_BTD).split(
            [self.dim, self.dim, self.gates], dim=-1
        )
        return query_BTD, context_BTD, gates_BTL

    def _modulate(self, query_BTD: Tensor, contexts: list[Tensor], gates_BTL: Tensor) -> Tensor:
        gathered_BTD = contexts[0] * gates_BTL[..., :1]
        for level in range(1, self.gates):
            gathered_BTD = gathered_BTD + contexts[level] * gates_BTL[..., level : level + 1]
        if self.normalize_modulator:
            gathered_BTD = gathered_BTD / self.gates
        y_BTD = query_BTD * self.context_proj(gathered_BTD)
        if self.norm is not None:
            y_BTD = self.norm(y_BTD)
        return self.dropout(self.out_proj(y_BTD))


class FeedForward(nn.Module):
    """Linear to four times the width, exact GELU, Linear back."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.in_proj = LinearGelu(dim, 4 * dim)
        self.out_proj = nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.dropout(self.out_proj(self.in_proj(x_BTD)))


class FocalBlock(nn.Module):
    """Modulation and feed-forward, each a residual branch normalised before or after, scaled or not."""

    def __init__(self, dim: int, options: FocalOptions, *, causal: bool, window_size: int) -> None:
        super().__init__()
        self.use_post_norm = options.use_post_norm
        self.modulation_norm = make_norm(dim, options, causal=causal)
        self.modulation = FocalModulation(dim, options, causal=causal, window_size=window_size)
        self.feed_forward_norm = make_norm(dim, options, causal=causal)
        self.feed_forward = FeedForward(dim, options.dropout)
        self.modulation_gamma: nn.Parameter | None = None
        self.feed_forward_gamma: nn.Parameter | None = None
        if options.use_layerscale:
            self.modulation_gamma = nn.Parameter(torch.full((dim,), options.layerscale_init))
            self.feed_forward_gamma = nn.Parameter(torch.full((dim,), options.layerscale_init))

    @property
    def state_tensors(self) -> int:
        return self.modulation.state_tensors

    def forward(self, x_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        inner_BTD = x_BTD if self.use_post_norm else self.modulation_norm(x_BTD)
        return self._finish(x_BTD, self.modulation(inner_BTD, lengths=lengths))

    def step(self, x_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        inner_BTD = x_BTD if self.use_post_norm else self.modulation_norm(x_BTD)
        modulated_BTD, state = self.modulation.step(inner_BTD, state)
        return self._finish(x_BTD, modulated_BTD), state

    def _finish(self, x_BTD: Tensor, modulated_BTD: Tensor) -> Tensor:
        """Add the modulation, then the feed-forward branch."""
        if self.use_post_norm:
            x_BTD = x_BTD + _scaled(self.modulation_norm(modulated_BTD), self.modulation_gamma)
            branch_BTD = self.feed_forward_norm(self.feed_forward(x_BTD))
        else:
            x_BTD = x_BTD + _scaled(modulated_BTD, self.modulation_gamma)
            branch_BTD = self.feed_forward(self.feed_forward_norm(x_BTD))
        return x_BTD + _scaled(branch_BTD, self.feed_forward_gamma)


def _scaled(x_BTD: Tensor, gamma_D: Tensor | None) -> Tensor:
    return x_BTD if gamma_D is None else gamma_D * x_BTD


def mean_over_time(x_BTD: Tensor, lengths: Tensor | None) -> Tensor:
    """Return (B,1,D), the mean over each item's valid frames."""
    if lengths is None:
        return x_BTD.mean(dim=1, keepdim=True)
    total_B1D = zero_padding(x_BTD, lengths).sum(dim=1, keepdim=True)
    return total_B1D / lengths.clamp(min=1)[:, None, None].to(x_BTD.dtype)
