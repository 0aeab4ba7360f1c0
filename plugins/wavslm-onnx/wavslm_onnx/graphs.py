"""Steps of a codec and of a language model as modules that can be traced: state in, state out.

Shapes: B batch, S samples, C tokens of a chunk, K uniform numbers. States are flat tuples of tensors.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wavslm_core.plugin import Codec, Draw, Sampler, SamplingContext, SpeechLM, State, join_states

NO_TOKEN = -1
"""What stands in a history before the first token."""


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
        self.backbone, self.head, self.sampler = speech_lm.backbone, speech_lm.head, sampler
        self.reads_features = speech_lm.reads_features
        self.tokens = speech_lm.chunk_tokens
        self.history = sampler.config.facts().history_tokens
        states = (codec.quantizer.init_decode_state(1), codec.decoder.init_state(1))
        self.kept = [len(state) for state in (*states, speech_lm.backbone.init_state(1))]
        self.uniforms = self._count()

    def init_state(self) -> dict[str, Tensor]:
        return named(
            features=self.quantizer.init_decode_state(1),
            decoder=self.decoder.init_state(1),
            backbone=self.backbone.init_state(1),
            history=(torch.full((1, self.history), NO_TOKEN),) if self.history else (),
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
        hidden_BCD, backbone = self.backbone.step(read, state[ends[1] : ends[2]])
        history = tuple(
            torch.cat([history_BH, tokens_BC], dim=1)[:, -self.history :] for history_BH in state[ends[2] :]
        )
        draw = TracedDraw(self.sampler, tokens_BC, uniforms_BK, position, history)
        next_BC = self.head.propose(hidden_BCD[:, -self.tokens :], draw)
        return (audio_BS, next_BC, *join_states(quantizer, decoder, backbone, history))

    def _count(self) -> int:
        """Return how many uniform numbers a chunk is drawn with."""
        width = self.head.config.facts().input_dim
        tokens_1C = torch.zeros(1, self.tokens, dtype=torch.int64)
        draw = TracedDraw(self.sampler, tokens_1C, None, tokens_1C.sum(), self._empty())
        with torch.no_grad():
            self.head.propose(torch.zeros(1, self.tokens, width), draw)
        return draw.drawn

    def _empty(self) -> State:
        return (torch.full((1, self.history), NO_TOKEN),) if self.history else ()


class TracedDraw(Draw):
    """Draws with given uniform numbers (B,K), without looking at any value; none: only counts them."""

    def __init__(
        self,
        sampler: Sampler,
        before_BT: Tensor,
        uniforms_BK: Tensor | None,
        position: Tensor,
        history: State,
    ) -> None:
        self._sampler, self._before_BT, self._position = sampler, before_BT, position
        self._uniforms_BK, self._history = uniforms_BK, history
        self._steps = 0
        self.drawn = 0

    @property
    def before_BT(self) -> Tensor:
        return self._before_BT

    def tokens(self, logits_BKV: Tensor) -> Tensor:
        batch, count, _ = logits_BKV.shape
        positions_K = self._position + self._steps + torch.arange(count)
        history_BH = self._history[0] if self._history else logits_BKV.new_zeros(batch, 0).long()
        tokens_BK = self._draw(
            logits_BKV,
            SamplingContext(positions_K.repeat(batch), history_BH.repeat_interleave(count, dim=0)),
        )
        self._history = tuple(
            torch.cat([kept_BH, tokens_BK], dim=1)[:, -kept_BH.shape[1] :] for kept_BH in self._history
        )
        self._steps += count
        return tokens_BK

    def symbols(self, logits_BKV: Tensor) -> Tensor:
        rows = logits_BKV.shape[0] * logits_BKV.shape[1]
        positions_N = (self._position + self._steps).expand(rows)
        return self._draw(logits_BKV, SamplingContext(positions_N, positions_N.new_zeros(rows, 0)))

    def _draw(self, logits_BKV: Tensor, context: SamplingContext) -> Tensor:
        batch, count, _ = logits_BKV.shape
        uniforms_BK = logits_BKV.new_zeros(batch, count)
        if self._uniforms_BK is not None:
            uniforms_BK = self._uniforms_BK[:, self.drawn : self.drawn + count]
        self.drawn += count
        adjusted_NV = self._sampler.adjust(logits_BKV.flatten(0, 1).float(), context)
        return inverted(adjusted_NV, uniforms_BK.flatten()).view(batch, count)


def inverted(logits_NV: Tensor, uniforms_N: Tensor) -> Tensor:
    """Return the ids (N,) that inverting the cumulative distribution gives, in operators that ONNX has."""
    cumulative_NV = logits_NV.softmax(dim=-1).double().cumsum(dim=-1).float()
    total_N1 = cumulative_NV[:, -1:]
    # Kept below the total, so that rounding never passes the last token that can be drawn.
    threshold_N1 = torch.minimum(uniforms_N[:, None] * total_N1, total_N1 * (1 - 2**-24))
    return (cumulative_NV <= threshold_N1).sum(dim=-1)


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
