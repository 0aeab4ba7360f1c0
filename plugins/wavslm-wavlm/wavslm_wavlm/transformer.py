"""Transformer layers of WavLM, and the stack that runs them over whole sequences or as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.plugin import LinearGelu, State, StateReader, check_whole_chunks, join_states, new_position
from wavslm_wavlm.attention import GatedAttention, Ring, RowRing
from wavslm_wavlm.blocks import Plan, Reach, Whole, make_plan, whole_mask
from wavslm_wavlm.config import WavLMConfig, WavLMUpperConfig
from wavslm_wavlm.positions import bias_by_offset, bias_table, whole_bias


class FeedForward(nn.Module):
    """Linear, exact GELU, Linear."""

    def __init__(self, dim: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.in_proj = LinearGelu(dim, ffn_dim)
        self.out_proj = nn.Linear(ffn_dim, dim)
        self.dropout = dropout

    def forward(self, x_BTD: Tensor) -> Tensor:
        hidden: Tensor = self.in_proj(x_BTD)
        if self.training:
            hidden = F.dropout(hidden, self.dropout)
        output: Tensor = self.out_proj(hidden)
        return output


class PreNormLayer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)): WavLM-large, the codec, the language model."""

    def __init__(self, dim: int, ffn_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = GatedAttention(dim, num_heads)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, ffn_dim, dropout)
        self.dropout = dropout

    def forward(self, x_BTD: Tensor, *, table_HQN: Tensor, plan: Plan | Whole) -> Tensor:
        """Map (B,T,D) to (B,T,D)."""
        normed = self.attention_norm(x_BTD)
        return self._finish(x_BTD, self.attention(normed, table_HQN=table_HQN, plan=plan))

    def step(self, x_BND: Tensor, state: State, ring: Ring | RowRing) -> tuple[Tensor, State]:
        """Map the next whole chunks (B, n·C, D) to (B, n·C, D)."""
        attended, state = self.attention.step(self.attention_norm(x_BND), state, ring)
        return self._finish(x_BND, attended), state

    def _finish(self, x_BTD: Tensor, attended_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + self._dropped(attended_BTD)
        return x_BTD + self._dropped(self.feed_forward(self.feed_forward_norm(x_BTD)))

    def _dropped(self, x_BTD: Tensor) -> Tensor:
        return F.dropout(x_BTD, self.dropout) if self.training else x_BTD


class PostNormLayer(PreNormLayer):
    """norm(x + attention(x)), then norm(x + feed_forward(x)): WavLM-base."""

    def forward(self, x_BTD: Tensor, *, table_HQN: Tensor, plan: Plan | Whole) -> Tensor:
        return self._finish(x_BTD, self.attention(x_BTD, table_HQN=table_HQN, plan=plan))

    def step(self, x_BND: Tensor, state: State, ring: Ring | RowRing) -> tuple[Tensor, State]:
        attended, state = self.attention.step(x_BND, state, ring)
        return self._finish(x_BND, attended), state

    def _finish(self, x_BTD: Tensor, attended_BTD: Tensor) -> Tensor:
        x_BTD = self.attention_norm(x_BTD + self._dropped(attended_BTD))
        output: Tensor = self.feed_forward_norm(x_BTD + self._dropped(self.feed_forward(x_BTD)))
        return output


def make_layers(config: WavLMConfig | WavLMUpperConfig) -> nn.ModuleList:
    """Build the layers that the config describes."""
    post_norm = isinstance(config, WavLMConfig) and not config.layer_norm_first
    layer_class = PostNormLayer if post_norm else PreNormLayer
    return nn.ModuleList(
        layer_class(config.dim, config.ffn_dim, config.num_heads, config.dropout)
        for _ in range(config.num_layers)
    )


@dataclass(frozen=True)
class Stack:
    """Layers over one bias table. Holds no weights of its own, so that its owner decides their names.

    Streaming state: keys and values of each layer, the bias of a chunk against its window, the position.
    """

    layers: Sequence[PreNormLayer]
    relative_embedding: nn.Embedding
    reach: Reach
    max_distance: int

    @property
    def state_tensors(self) -> int:
        return 2 * len(self.layers) + 2

    def hidden_states(self, x_BTD: Tensor, *, lengths: Tensor | None = None) -> Iterator[Tensor]:
        """Yield what each layer gives, (B,T,D), from the first to the last."""
        prepare = self._whole if torch.compiler.is_compiling() else self._plan
        table_HQN, plan = prepare(x_BTD, lengths)
        for layer in self.layers:
            x_BTD = layer(x_BTD, table_HQN=table_HQN, plan=plan)
            yield x_BTD

    def _plan(self, x_BTD: Tensor, lengths: Tensor | None) -> tuple[Tensor, Plan | Whole]:
        batch, size, _ = x_BTD.shape
        weight_NH = self.relative_embedding.weight.float()
        num_buckets, heads = weight_NH.shape
        sizes = [size] * batch if lengths is None else lengths.tolist()
        plan = make_plan(self.reach, lengths=sizes, size=size, heads=heads, device=x_BTD.device)
        table_HQN = bias_table(
            weight_NH,
            rows=plan.rows,
            before=plan.before,
            after=plan.after,
            num_buckets=num_buckets,
            max_distance=self.max_distance,
        )
        return table_HQN, plan

    def _whole(self, x_BTD: Tensor, lengths: Tensor | None) -> tuple[Tensor, Plan | Whole]:
        size, weight_NH = x_BTD.shape[1], self.relative_embedding.weight.float()
        table_HTT = whole_bias(
            weight_NH, size=size, num_buckets=weight_NH.shape[0], max_distance=self.max_distance
        )
        return table_HTT, whole_mask(self.reach, lengths=lengths, size=size, device=x_BTD.device)

    def forward(self, x_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Map (B,T,D) to what the last layer gives, (B,T,D)."""
        for hidden_BTD in self.hidden_states(x_BTD, lengths=lengths):
            x_BTD = hidden_BTD
        return x_BTD

    def init_state(self, batch_size: int) -> State:
        """Return empty caches. Call it anew after the weights have changed."""
        assert self.reach.window is not None
        caches = [layer.attention.init_state(batch_size, self.reach.window) for layer in self.layers]
        return join_states(*caches, (self._window_bias(self.reach.window), new_position()))

    def _window_bias(self, window: int) -> Tensor:
        """Return the bias (H, C, 2W) of a chunk against its window, which it ends, twice in a row."""
        weight_NH = self.relative_embedding.weight.detach()
        bias_HN = bias_by_offset(
            weight_NH,
            first=1 - window,
            last=self.reach.chunk - 1,
            num_buckets=weight_NH.shape[0],
            max_distance=self.max_distance,
        )
        return bias_HN.unfold(1, window, 1).flip(1).repeat(1, 1, 2)

    def step(self, x_BND: Tensor, state: State) -> tuple[Tensor, State]:
        """Map the next whole chunks (B, n·C, D) to (B, n·C, D).

        Raises: StreamingError for anything but whole chunks.
        """
        frames, chunk, window = x_BND.shape[1], self.reach.chunk, self.reach.window
        assert window is not None
        check_whole_chunks(x_BND, chunk, "frames")
        *_, bias_HCN, position = state
        ring: Ring | RowRing
        if position.dim():
            ring = RowRing.at(position.tolist(), frames // chunk, chunk, window, bias_HCN)
        elif torch.compiler.is_compiling():
            at = Ring(position, chunk, window, bias_HCN)
            ring = replace(at, traced=tuple(at.place(offset) for offset in range(0, frames, chunk)))
        else:
            ring = Ring(int(position), chunk, window, bias_HCN)
        reader = StateReader(state)
        caches = []
        for layer in self.layers:
            x_BND, cache = layer.step(x_BND, reader.take(2), ring)
            caches.append(cache)
        return x_BND, join_states(*caches, (bias_HCN, position + frames))


def make_stack(
    config: WavLMConfig | WavLMUpperConfig,
    layers: nn.ModuleList,
    relative_embedding: nn.Embedding,
    *,
    count: int | None = None,
) -> Stack:
    """Put the lowest `count` layers (all by default) and the bias table together as the config says."""
    reach = Reach()
    if isinstance(config, WavLMUpperConfig):
        reach = Reach(config.chunk_tokens, config.window_size)
    elif config.causal:
        reach = Reach(config.chunk_frames, config.window_size)
    chosen = cast(list[PreNormLayer], list(layers)[:count])
    return Stack(chosen, relative_embedding, reach, config.max_distance)
