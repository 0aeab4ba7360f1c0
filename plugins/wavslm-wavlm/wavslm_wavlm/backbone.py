"""WavLM's upper layers as the language model's backbone: causal in chunks, over features or tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wavslm_core.plugin import Backbone, CheckpointError, Encoder, State, zero_padding
from wavslm_wavlm.config import WavLMUpperConfig
from wavslm_wavlm.encoder import WavLM, whole
from wavslm_wavlm.initial import fill_backbone, load_initial_backbone, wants_initial_weights
from wavslm_wavlm.transformer import Stack, make_layers, make_stack


class WavLMUpper(Backbone[WavLMUpperConfig]):
    """Layers k… of a WavLM with a bias table and a final norm of their own (WavSLM)."""

    def __init__(self, config: WavLMUpperConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.dim) if config.input == "embedding" else None
        projects = config.input == "features" and config.input_dim != config.dim
        self.input_proj = nn.Linear(config.input_dim, config.dim) if projects else None
        self.relative_embedding = nn.Embedding(config.num_buckets, config.num_heads)
        self.layers = make_layers(config)
        self.norm = nn.LayerNorm(config.dim)
        if config.checkpoint is not None and wants_initial_weights():
            load_initial_backbone(self, config, config.checkpoint)

    def adopt(self, encoder: Encoder[Any]) -> None:
        if not isinstance(encoder, WavLM):
            raise CheckpointError(
                f"the encoder is '{encoder.config.registered_name()}', whose layers a 'wavlm_upper' cannot "
                "start as. Give a 'wavlm'"
            )
        fill_backbone(self, self.config, whole(encoder, "the encoder"))

    @property
    def stack(self) -> Stack:
        return make_stack(self.config, self.layers, self.relative_embedding)

    def forward(self, inputs: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Map features (B,T,D) or tokens (B,T) to hidden states (B,T,D)."""
        x_BTD = zero_padding(self._read(inputs), lengths)
        output: Tensor = self.norm(self.stack.forward(x_BTD, lengths=lengths))
        return output

    def init_state(self, batch_size: int) -> State:
        return self.stack.init_state(batch_size)

    @torch.no_grad()
    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Map the next whole chunks to hidden states. Raises: StreamingError for anything else."""
        hidden_BND, state = self.stack.step(self._read(inputs), state)
        return self.norm(hidden_BND), state

    def _read(self, inputs: Tensor) -> Tensor:
        if self.embedding is not None:
            inputs = self.embedding(inputs)
        elif self.input_proj is not None:
            inputs = self.input_proj(inputs)
        return inputs
