"""Steps of a codec and of a language model as modules that can be traced: state in, state out.

Shapes: B batch, S samples, C tokens of a chunk, K uniform numbers. States are flat tuples of tensors.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wavslm_core.plugin import Codec, NextChunk, Sampler, SpeechLM, State, join_states


class Graph(nn.Module):
    """One step; `inputs` and `outputs` name what goes in and comes out beside the state."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def init_state(self) -> dict[str, Tensor]:
        """Return the state before the first step, with a batch of one, by name."""
        raise NotImplementedError

    def example(self) -> tuple[Tensor, ...]:
        """Return inputs of the right shapes."""
        raise NotImplementedError


def named(**states: State) -> dict[str, Tensor]:
    """Return states as tensors with names of their own."""
    return {f"{name}_{i}": tensor for name, state in states.items() for i, tensor in enumerate(state)}


class Encode(Graph):
    """A chunk of samples (B,S) to its tokens (B,C)."""

    inputs, outputs = ("waveform",), ("tokens",)

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.encoder, self.quantizer = codec.encoder, codec.quantizer
        self.samples = codec.facts.chunk_samples_in
        self.kept = len(codec.encoder.init_state(1))

    def init_state(self) -> dict[str, Tensor]:
        return named(encoder=self.encoder.init_state(1), quantizer=self.quantizer.init_encode_state(1))

    def example(self) -> tuple[Tensor, ...]:
        return (torch.zeros(1, self.samples),)

    def forward(self, waveform_BS: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        features_BTD, encoder = self.encoder.step(waveform_BS, state[: self.kept])
        tokens_BC, quantizer = self.quantizer.encode_step(features_BTD, state[self.kept :])
        return (tokens_BC, *join_states(encoder, quantizer))


class Decode(Graph):
    """A chunk of tokens (B,C) to samples (B,S), which lag by what the decoder holds back."""

    inputs, outputs = ("tokens",), ("audio",)

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.quantizer, self.decoder = codec.quantizer, codec.decoder
        self.tokens = codec.facts.chunk_tokens
        self.kept = len(codec.quantizer.init_decode_state(1))

    def init_state(self) -> dict[str, Tensor]:
        return named(features=self.quantizer.init_decode_state(1), decoder=self.decoder.init_state(1))

    def example(self) -> tuple[Tensor, ...]:
        return (torch.zeros(1, self.tokens, dtype=torch.int64),)

    def forward(self, tokens_BC: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        features_BTD, quantizer = self.quantizer.decode_step(tokens_BC, state[: self.kept])
        audio_BS, decoder = self.decoder.step(features_BTD, state[self.kept :])
        return (audio_BS, *join_states(quantizer, decoder))


class Flush(Graph):
    """The last samples (B,S) that a decoder holds back; reads its state and leaves none."""

    inputs, outputs = (), ("audio",)

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.decoder = codec.decoder

    def init_state(self) -> dict[str, Tensor]:
        return named(decoder=self.decoder.init_state(1))

    def example(self) -> tuple[Tensor, ...]:
        return ()

    def forward(self, *state: Tensor) -> tuple[Tensor, ...]:
        return (self.decoder.flush(state).clone(),)


class Speak(Graph):
    """A chunk of tokens (B,C), heard or drawn, to its samples (B,S) and to the next chunk of tokens (B,C).

    Features of tokens are decoded once, for the decoder and for a backbone that reads them. `position` counts
    the tokens that were drawn; `history` holds the last ones, heard or drawn, as samplers want to see them.
    """

    inputs, outputs = ("tokens", "uniforms", "position"), ("audio", "next_tokens")

    def __init__(self, speech_lm: SpeechLM, sampler: Sampler) -> None:
        super().__init__()
        codec = speech_lm.codec
        self.quantizer, self.decoder = codec.quantizer, codec.decoder
        self.next = NextChunk(speech_lm.backbone, speech_lm.head, sampler)
        self.reads_features = speech_lm.reads_features
        self.tokens, self.uniforms = self.next.tokens, self.next.uniforms
        states = (codec.quantizer.init_decode_state(1), codec.decoder.init_state(1))
        self.kept = [len(state) for state in (*states, speech_lm.backbone.init_state(1))]

    def init_state(self) -> dict[str, Tensor]:
        return named(
            features=self.quantizer.init_decode_state(1),
            decoder=self.decoder.init_state(1),
            backbone=self.next.backbone.init_state(1),
            history=self.next.begin_history(1),
        )

    def example(self) -> tuple[Tensor, ...]:
        tokens_1C = torch.zeros(1, self.tokens, dtype=torch.int64)
        return tokens_1C, torch.zeros(1, self.uniforms), torch.zeros((), dtype=torch.int64)

    def forward(
        self, tokens_BC: Tensor, uniforms_BK: Tensor, position: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        ends = [sum(self.kept[:count]) for count in range(1, 4)]
        features_BTD, quantizer = self.quantizer.decode_step(tokens_BC, state[: ends[0]])
        audio_BS, decoder = self.decoder.step(features_BTD, state[ends[0] : ends[1]])
        read = features_BTD if self.reads_features else tokens_BC
        history = self.next.noted(state[ends[2] :], tokens_BC)
        drawn = self.next(read, uniforms_BK, position, tokens_BC, history, state[ends[1] : ends[2]])
        return (audio_BS, drawn.tokens_BC, *join_states(quantizer, decoder, drawn.backbone, history))


def graphs(model: Codec | SpeechLM, sampler: Sampler | None = None) -> Mapping[str, Graph]:
    """Return the graphs of a codec or a language model by name, in eval mode, on the CPU."""
    codec = model if isinstance(model, Codec) else model.codec
    found: dict[str, Graph] = {"encode": Encode(codec), "decode": Decode(codec)}
    if codec.facts.decoder.delay_samples:
        found["flush"] = Flush(codec)
    if isinstance(model, SpeechLM):
        found["speak"] = Speak(model, model.sampler if sampler is None else sampler)
    return {name: graph.eval() for name, graph in found.items()}


def unit_problem(model: SpeechLM) -> str | None:
    """Return why a model cannot hear, read and speak in steps of one size, if it cannot."""
    head, codec = model.chunk_tokens, model.codec.facts.chunk_tokens
    if model.codec.facts.quantizer.variable_rate:
        return "its quantizer merges runs of tokens"
    return None if head % codec == 0 else f"its head speaks {head} tokens at a time, its codec {codec}"
