"""WavLM as an encoder: full context for offline codecs and as a teacher, causal in chunks for streaming."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wavslm_core.plugin import (
    CheckpointError,
    Encoder,
    LayeredEncoder,
    SkipInitialisation,
    State,
    StateReader,
    check_whole_chunks,
    join_states,
    load_part,
    valid_mask,
    zero_padding,
)
from wavslm_wavlm.config import WavLMConfig
from wavslm_wavlm.front_end import FeatureExtractor, PositionalEmbedding
from wavslm_wavlm.initial import fill_encoder, load_initial_encoder, wants_initial_weights
from wavslm_wavlm.transformer import Stack, make_layers, make_stack
from wavslm_wavlm.weights import WavLMCheckpoint, read_wavlm


class Transformer(nn.Module):
    """Positional convolution, layers and their bias table; holds the norm where the style has one."""

    def __init__(self, config: WavLMConfig) -> None:
        super().__init__()
        self.config = config
        self.positional_embedding = PositionalEmbedding(config)
        self.relative_embedding = nn.Embedding(config.num_buckets, config.num_heads)
        self.layers = make_layers(config)
        self.norm = nn.LayerNorm(config.dim) if config.has_norm else None

    @property
    def output_layer(self) -> int:
        """The layer whose hidden states are the features; 0 is the input of the first."""
        layer = self.config.output_layer
        return len(self.layers) if layer is None else layer

    def stack(self, count: int) -> Stack:
        """Return the lowest `count` layers with their bias table."""
        return make_stack(self.config, self.layers, self.relative_embedding, count=count)

    def hidden_states(self, x_BTD: Tensor, *, lengths: Tensor | None = None) -> Iterator[Tensor]:
        """Yield the input of the first layer, then what each layer gives; a final norm is in the last."""
        x_BTD = zero_padding(x_BTD, lengths)
        x_BTD = self._first(x_BTD + self.positional_embedding(x_BTD))
        yield self._last(x_BTD) if not self.layers else x_BTD
        states = self.stack(len(self.layers)).hidden_states(x_BTD, lengths=lengths)
        for index, hidden_BTD in enumerate(states, start=1):
            yield self._last(hidden_BTD) if index == len(self.layers) else hidden_BTD

    def _first(self, x_BTD: Tensor) -> Tensor:
        return self.norm(x_BTD) if self.norm is not None and not self.config.layer_norm_first else x_BTD

    def _last(self, x_BTD: Tensor) -> Tensor:
        return self.norm(x_BTD) if self.norm is not None and self.config.layer_norm_first else x_BTD

    def init_state(self, batch_size: int) -> State:
        stack = self.stack(self.output_layer)
        return join_states(self.positional_embedding.init_state(batch_size), stack.init_state(batch_size))

    def step(self, x_BND: Tensor, state: State) -> tuple[Tensor, State]:
        """Map the next whole chunks (B,N,D) to what the output layer gives, (B,N,D)."""
        reader = StateReader(state)
        position_BND, position_state = self.positional_embedding.step(
            x_BND, reader.take(PositionalEmbedding.state_tensors)
        )
        stack = self.stack(self.output_layer)
        hidden_BND, stack_state = stack.step(
            self._first(x_BND + position_BND), reader.take(stack.state_tensors)
        )
        if self.output_layer == len(self.layers):
            hidden_BND = self._last(hidden_BND)
        return hidden_BND, join_states(position_state, stack_state)


class WavLM(LayeredEncoder[WavLMConfig]):
    """WavLM (Chen et al. 2022), and its causal form of FocalCodec-Stream."""

    def __init__(self, config: WavLMConfig) -> None:
        super().__init__(config)
        self.feature_extractor = FeatureExtractor(config)
        self.norm = nn.LayerNorm(config.hidden_dims[-1])
        self.feature_proj = nn.Linear(config.hidden_dims[-1], config.dim)
        self.encoder = Transformer(config)
        if config.checkpoint is not None and wants_initial_weights():
            load_initial_encoder(self, config, config.checkpoint)

    def frame_lengths(self, sample_lengths: Tensor) -> Tensor:
        return self.feature_extractor.frame_lengths(sample_lengths)

    def forward(self, waveform_BS: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Return the hidden states of the output layer, (B,T,D); `lengths` counts samples."""
        states = self._hidden_states(waveform_BS, lengths)
        return next(islice(states, self.encoder.output_layer, None))

    def hidden_states(self, waveform_BS: Tensor, *, lengths: Tensor | None = None) -> list[Tensor]:
        """Return num_layers + 1 tensors (B,T,D): the input of the first layer, then what each layer gives.

        With `final_norm`, the last one is normalised, as in the transformers library.
        """
        return list(self._hidden_states(waveform_BS, lengths))

    def project(self, waveform_BS: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Return what the transformer reads, (B,T,D): each frame as the front end alone hears it."""
        if self.config.normalize_waveform:
            waveform_BS = normalize(waveform_BS, lengths=lengths)
        return self.feature_proj(self.norm(self.feature_extractor(waveform_BS, lengths=lengths)))

    def _hidden_states(self, waveform_BS: Tensor, lengths: Tensor | None) -> Iterator[Tensor]:
        projected_BTD = self.project(waveform_BS, lengths=lengths)
        return self.encoder.hidden_states(projected_BTD, lengths=self._frame_lengths(lengths))

    def _frame_lengths(self, lengths: Tensor | None) -> Tensor | None:
        return None if lengths is None else self.frame_lengths(lengths)

    @property
    def positional(self) -> nn.Module:
        return self.encoder.positional_embedding

    def positional_input(self, waveform_BS: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return zero_padding(self.project(waveform_BS, lengths=lengths), self._frame_lengths(lengths))

    @property
    def positions(self) -> tuple[nn.Module, ...]:
        """The positional convolution and the table of the relative bias."""
        return self.encoder.positional_embedding, self.encoder.relative_embedding

    def lowest(self, layers: int) -> WavLM:
        fewer = {"num_layers": layers, "output_layer": None, "checkpoint": None}
        if self.config.layer_norm_first:
            fewer["final_norm"] = False
        with SkipInitialisation():
            encoder = WavLM(self.config.model_copy(update=fewer))
        encoder.adopt(self)
        return encoder.train(self.training)

    def adopt(self, teacher: Encoder[Any]) -> None:
        if not isinstance(teacher, WavLM):
            raise CheckpointError(
                f"the teacher is the encoder '{teacher.config.registered_name()}', whose weights a 'wavlm' "
                "cannot take over. Give a 'wavlm' as teacher"
            )
        fill_encoder(self, self.config, whole(teacher, "the teacher"))

    def init_state(self, batch_size: int) -> State:
        self._check_streams()
        return join_states(self.feature_extractor.init_state(batch_size), self.encoder.init_state(batch_size))

    @torch.no_grad()
    def step(self, waveform_BS: Tensor, state: State) -> tuple[Tensor, State]:
        """Return features (B, S / hop, D) for whole chunks of samples, and the next state.

        Raises: StreamingError when not causal, or for anything but whole chunks.
        """
        self._check_streams()
        check_whole_chunks(waveform_BS, self.config.chunk_frames * self.config.hop_samples, "samples")
        reader = StateReader(state)
        front_count = self.feature_extractor.state_tensors
        frames_BND, front_state = self.feature_extractor.step(waveform_BS, reader.take(front_count))
        features_BND, encoder_state = self.encoder.step(
            self.feature_proj(self.norm(frames_BND)), reader.take(len(state) - front_count)
        )
        return features_BND, join_states(front_state, encoder_state)

    def _check_streams(self) -> None:
        if not self.config.facts().streams:
            raise self.no_streaming()


def whole(encoder: WavLM, source: str) -> WavLMCheckpoint:
    """Return an encoder as what other parts take their layers from; `source` names it in errors."""
    state = {key: value.detach() for key, value in encoder.state_dict().items()}
    return WavLMCheckpoint(encoder.config, state, source)


def load_wavlm(reference: str | Path, *, device: torch.device | str | None = None) -> WavLM:
    """Load a complete WavLM in full context, as a teacher or a feature extractor. Raises: CheckpointError."""
    checkpoint = read_wavlm(reference)
    build = partial(WavLM, checkpoint.config)
    model = load_part(build, checkpoint.state, source=checkpoint.source)
    return model.to(device or "cpu").eval()


def normalize(waveform_BS: Tensor, *, lengths: Tensor | None = None) -> Tensor:
    """Bring the valid samples of each item to zero mean and unit variance; padded places become 0."""
    if lengths is None:
        variance, mean = torch.var_mean(waveform_BS, dim=1, keepdim=True, correction=0)
        return (waveform_BS - mean) * (variance + 1e-7).rsqrt()
    mask_BS = valid_mask(lengths, waveform_BS.shape[1])
    count_B1 = lengths.clamp(min=1)[:, None]
    mean = waveform_BS.masked_fill(~mask_BS, 0.0).sum(1, keepdim=True) / count_B1
    centred = (waveform_BS - mean).masked_fill(~mask_BS, 0.0)
    return centred * (centred.square().sum(1, keepdim=True) / count_B1 + 1e-7).rsqrt()
