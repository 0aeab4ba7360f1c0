"""A transformer of the x-transformers library as the language model's backbone.

The library builds the layers and owns their weights, norms, feed-forward parts and residuals. What it has no
way to say is ours: a band of chunks and a window whose cost is linear in length (`band`), a cache that never
grows (`ring`; the library's is concatenated at every step), and angles that stay exact (`rotary`). A test
compares all of it with the library's own forward pass under a mask.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from x_transformers.x_transformers import AttentionLayers

from wavslm_core.plugin import (
    ArgumentError,
    Backbone,
    State,
    StateReader,
    check_whole_chunks,
    join_states,
    new_position,
    valid_mask,
    zero_padding,
)
from wavslm_x_transformers.band import Band, attend, make_plan
from wavslm_x_transformers.config import XTransformerConfig
from wavslm_x_transformers.ring import STATE_TENSORS, Ring, init_ring
from wavslm_x_transformers.rotary import rotate, rotation

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries (B,T,G,K,d), keys and values (B,T,K,d) to what is gathered, (B,T,G,K,d)."""


class XTransformer(Backbone[XTransformerConfig]):
    """Pre-norm transformer: rotary positions, RMSNorm, SwiGLU, grouped queries; causal in chunks."""

    def __init__(self, config: XTransformerConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.dim) if config.input == "embedding" else None
        projects = config.input == "features" and config.input_dim != config.dim
        self.input_proj = nn.Linear(config.input_dim, config.dim) if projects else None
        self.layers = AttentionLayers(
            dim=config.dim,
            depth=config.num_layers,
            heads=config.num_heads,
            use_rmsnorm=True,
            attn_dim_head=config.head_dim,
            attn_kv_heads=config.kv_heads,
            attn_sublayer_dropout=config.dropout,
            # The library rounds down what it multiplies by `dim`.
            ff_mult=(config.inner_dim + 0.5) / config.dim,
            ff_glu=True,
            ff_swish=True,
            ff_dropout=config.dropout,
            ff_sublayer_dropout=config.dropout,
            verbose=False,
        )
        if not config.chunk_tokens:
            raise ArgumentError("chunk_tokens is not given; a recipe takes it from the head. Give a number")
        self.band = Band(config.chunk_tokens, config.window_tokens)

    def forward(self, inputs: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Map features (B,T,D) or tokens (B,T) to hidden states (B,T,D)."""
        size = inputs.shape[1]
        x_BTD = self._read(inputs, lengths)
        padded = self.band.padded(size)
        if padded > size:
            x_BTD = F.pad(x_BTD, (0, 0, 0, padded - size))
        plan = make_plan(
            self.band,
            size=size,
            groups=self.config.num_heads // self.config.kv_heads,
            device=x_BTD.device,
            lengths=lengths,
        )
        hidden_BTD = self._run(x_BTD, 0, [partial(attend, plan=plan)] * self.config.num_layers)
        return hidden_BTD[:, :size]

    def init_state(self, batch_size: int) -> State:
        config = self.config
        like = self.layers.final_norm.g
        rings = [
            init_ring(
                batch_size,
                window=config.window_tokens,
                kv_heads=config.kv_heads,
                head_dim=config.head_dim,
                like=like,
            )
            for _ in range(config.num_layers)
        ]
        return join_states(*rings, (new_position(),))

    @torch.no_grad()
    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Map the next whole chunks to hidden states. Raises: StreamingError for anything else."""
        check_whole_chunks(inputs, self.config.chunk_tokens, "tokens")
        *_, position = state
        as_tensor = torch.compiler.is_compiling() or position.dim() > 0
        ring = Ring(position if as_tensor else int(position), self.band)
        reader = StateReader(state)
        rings: list[State] = []

        def attend_ring(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            gathered, kept = ring.attend(queries, keys, values, reader.take(STATE_TENSORS))
            rings.append(kept)
            return gathered

        attends = [attend_ring] * self.config.num_layers
        hidden_BND = self._run(self._read(inputs, None), ring.position, attends)
        return hidden_BND, join_states(*rings, (position + inputs.shape[1],))

    def _read(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        """Return (B,T,D); whatever stood in padded places is gone, and no gradient comes from there."""
        if self.embedding is not None:
            if lengths is not None:
                inputs = inputs.masked_fill(~valid_mask(lengths, inputs.shape[1]), 0)
            return self.embedding(inputs)
        inputs = zero_padding(inputs, lengths)
        return inputs if self.input_proj is None else self.input_proj(inputs)

    def _run(self, x_BTD: Tensor, position: int | Tensor, attends: Sequence[Attend]) -> Tensor:
        """Run all layers; `attends` is the attention of each, the first place has that position."""
        config = self.config
        rotation_TP = rotation(
            position, x_BTD.shape[1], width=config.head_dim, base=config.rotary_base, device=x_BTD.device
        )
        remaining = iter(attends)
        for kind, (norms, block, residual) in zip(self.layers.layer_types, self.layers.layers, strict=True):
            normed_BTD = norms[0](x_BTD)
            if kind == "a":
                added_BTD = _attention(block, normed_BTD, rotation_TP, config, next(remaining))
            else:
                added_BTD = block(normed_BTD)
            x_BTD = residual(added_BTD, x_BTD)
        hidden_BTD: Tensor = self.layers.final_norm(x_BTD)
        return hidden_BTD


def _attention(
    block: Any, x_BTD: Tensor, rotation_TP: Tensor, config: XTransformerConfig, attends: Attend
) -> Tensor:
    """Return what a layer of the library adds to (B,T,D), its scores computed by `attends`."""
    queries_BTHd = block.to_q(x_BTD).unflatten(-1, (config.num_heads, -1))
    keys_BTKd, values_BTKd = (
        project(x_BTD).unflatten(-1, (config.kv_heads, -1)) for project in (block.to_k, block.to_v)
    )
    gathered_BTGKd = attends(
        # Head h of the queries reads head h mod K of the keys.
        rotate(queries_BTHd, rotation_TP).unflatten(2, (-1, config.kv_heads)),
        rotate(keys_BTKd, rotation_TP),
        values_BTKd,
    )
    output: Tensor = block.to_out(gathered_BTGKd.flatten(2))
    return output if block.sublayer_dropout is None else block.sublayer_dropout(output)
