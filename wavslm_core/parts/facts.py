"""Facts: what a part is, stated by its config without building a module and without importing torch.

A frame is one encoder step, a token one code; a chunk is the smallest piece that a streaming part
takes at once. `recipe.check()` compares these before a weight is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import lcm, log2
from typing import Any, Literal, TypeVar

T = TypeVar("T", bound=Any)
"""An int or an int64 tensor."""


@dataclass(frozen=True, kw_only=True)
class EncoderFacts:
    """Waveform in, features out."""

    sample_rate_hz: int
    hop_samples: int
    """Samples per frame."""
    output_dim: int
    layers: int | None = None
    """Layers that features have passed, where what each gives can be had, as in a `LayeredEncoder`."""
    chunk_frames: int = 1
    """Frames that a streaming step takes at least; frames of one chunk see each other."""
    window_frames: int | None = None
    """Frames that a layer looks at from each frame, its own chunk included; None: no such limit."""
    causal: bool = False
    """No frame depends on anything after the end of its chunk."""
    streams: bool = False
    """`step` is implemented and equals `forward`."""


@dataclass(frozen=True, kw_only=True)
class QuantizerFacts:
    """Features in, one stream of integers out, and back to features."""

    input_dim: int
    output_dim: int
    vocab_size: int
    frames_per_token: int = 1
    """Frames that one token stands for."""
    tokens_per_frame: int = 1
    """Tokens in a row that make one frame, as in a residual quantizer; then `frames_per_token` is 1."""
    ids_per_place: int | None = None
    """Ids that `encode` can give, given the place in the frame; None: all of the vocabulary."""
    max_run: int = 1
    """Frames that a token of a language model stands for at most; 1: it reads tokens as `encode` gives them.

    Above 1, `Quantizer.compact` merges runs of equal tokens: ids are code · max_run + run − 1, `encode` gives
    runs of one, a token is a frame there, and the rate of the language model's tokens varies.
    """
    code_parts: tuple[int, ...] | None = None
    """Ids are numbers whose digits, the most significant first, are parts of the code, such as 12 bits or the
    levels of a grid: how many values each digit has. None: ids are names and no more."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """Losses of its own that `forward` gives → their weights in training, unless a recipe gives others."""
    chunk_frames: int = 1
    causal: bool = False
    streams: bool = False

    @property
    def chunk_tokens(self) -> int:
        return max(self.tokens_per_frame, self.chunk_frames * self.tokens_per_frame // self.frames_per_token)

    @property
    def digits(self) -> tuple[int, ...]:
        """How many values each digit of an id has; one digit where ids are names."""
        return self.code_parts or (self.vocab_size,)

    @property
    def variable_rate(self) -> bool:
        """Whether the tokens of a language model stand for varying numbers of frames."""
        return self.max_run > 1

    @property
    def bits_per_token(self) -> float:
        """What a token of `encode` costs without a model of tokens."""
        return log2(self.ids_per_place or self.vocab_size)


@dataclass(frozen=True, kw_only=True)
class DecoderFacts:
    """Features in, waveform out."""

    input_dim: int
    sample_rate_hz: int
    hop_samples: int
    """Output samples per frame."""
    chunk_frames: int = 1
    delay_samples: int = 0
    """Samples by which streamed output lags behind `forward`; `flush` returns the rest."""
    causal: bool = False
    streams: bool = False


@dataclass(frozen=True, kw_only=True)
class BackboneFacts:
    """Features or tokens in, hidden states out, both at the token rate."""

    input: Literal["features", "embedding"]
    """`features`: reads `Quantizer.decode(tokens)`; `embedding`: reads tokens, owns a table."""
    input_dim: int
    output_dim: int
    chunk_tokens: int = 1
    window_tokens: int | None = None
    """Tokens that a layer looks at from each token, its own chunk included; None: no such limit."""
    causal: bool = True
    streams: bool = True


@dataclass(frozen=True, kw_only=True)
class HeadFacts:
    """Hidden states in, log-probabilities and proposals out."""

    input_dim: int
    vocab_size: int
    chunk_tokens: int
    """Tokens that one `propose` gives."""
    exact_log_probs: bool = True
    """False: `log_probs` gives a lower bound."""
    draws: Literal["tokens", "symbols"] = "tokens"
    """Whether a draw gives a token or a symbol that tokens are made of; a sampler's history needs tokens."""

    @property
    def lookahead_tokens(self) -> int:
        """Tokens after the first of a chunk that a backbone may see with it."""
        return self.chunk_tokens - 1


@dataclass(frozen=True, kw_only=True)
class SamplerFacts:
    """Logits in, logits out."""

    greedy: bool = False
    """Nothing is left to chance."""
    history_tokens: int = 0
    """Tokens before the drawn one that `adjust` wants to see."""
    candidates: int = 1
    """Continuations drawn for each that is kept: the likeliest. More than one cannot stream."""


PartFacts = EncoderFacts | QuantizerFacts | DecoderFacts | BackboneFacts | HeadFacts | SamplerFacts


def sampler_problem(head: HeadFacts, sampler: SamplerFacts) -> str | None:
    """Return why a sampler cannot serve a head, or None."""
    if sampler.history_tokens and head.draws == "symbols":
        return (
            "it looks at the tokens before the drawn one, but the head draws symbols that tokens are made "
            "of. Use a sampler without history, or a head that draws whole tokens"
        )
    return None


def chunk_ahead_problem(
    head: HeadFacts, sampler: SamplerFacts, quantizer: QuantizerFacts | None = None
) -> str | None:
    """Return why a sampler cannot draw every chunk given the true one before it alone, or None."""
    if quantizer is not None and quantizer.variable_rate:
        return (
            "the quantizer merges repeated tokens, so a drawn chunk need not last as long as the true one "
            "and cannot be compared with the recording: leave out `chunk_ahead`"
        )
    if sampler.history_tokens > head.chunk_tokens or sampler.candidates > 1:
        return (
            "one chunk ahead, a sampler sees no more than the chunk before: leave out `chunk_ahead`, or "
            "evaluate with a sampler without history such as top_p"
        )
    return None


def codec_problem(quantizer: QuantizerFacts, backbone: BackboneFacts, head: HeadFacts) -> str | None:
    """Return why a language model cannot read a codec's tokens, to go after its name, or None."""
    own = "Give the codec that it was trained with"
    if head.vocab_size != quantizer.vocab_size:
        return f"models {head.vocab_size} codes, but the codec has {quantizer.vocab_size}. {own}"
    if backbone.input != "features":
        return None
    if quantizer.tokens_per_frame != quantizer.frames_per_token:
        return (
            f"reads one feature vector per token, but the codec gives {quantizer.frames_per_token} for "
            f"{quantizer.tokens_per_frame}. Give another codec, or a language model that reads tokens "
            "(`backbone.input: embedding`)"
        )
    if backbone.input_dim != quantizer.output_dim:
        return (
            f"reads features of width {backbone.input_dim}, but the codec gives {quantizer.output_dim}. {own}"
        )
    return None


@dataclass(frozen=True, kw_only=True)
class CodecFacts:
    """What follows from an encoder, a quantizer and a decoder taken together."""

    encoder: EncoderFacts
    quantizer: QuantizerFacts
    decoder: DecoderFacts

    @property
    def sample_rate_in_hz(self) -> int:
        return self.encoder.sample_rate_hz

    @property
    def sample_rate_out_hz(self) -> int:
        return self.decoder.sample_rate_hz

    @property
    def token_rate_hz(self) -> float:
        """Tokens of `encode` a second; where runs are merged, a language model reads fewer."""
        frame_rate_hz = self.encoder.sample_rate_hz / self.encoder.hop_samples
        return frame_rate_hz * self.quantizer.tokens_per_frame / self.quantizer.frames_per_token

    @property
    def chunk_frames(self) -> int:
        """Frames of the smallest chunk that all three parts can take."""
        return lcm(
            self.encoder.chunk_frames,
            self.quantizer.chunk_frames,
            self.quantizer.frames_per_token,
            self.decoder.chunk_frames,
        )

    @property
    def unit_tokens(self) -> int:
        """What a language model's tokens are cut to multiples of, in phase with how the audio was coded.

        The chunk; 1 where runs are merged and chunks have no edges.
        """
        return 1 if self.quantizer.variable_rate else self.chunk_tokens

    @property
    def chunk_tokens(self) -> int:
        return self.chunk_frames * self.quantizer.tokens_per_frame // self.quantizer.frames_per_token

    def frames(self, tokens: T) -> T:
        """Return how many frames that many tokens make, whole ones (an int or an int64 tensor)."""
        return tokens * self.quantizer.frames_per_token // self.quantizer.tokens_per_frame

    def samples_out(self, tokens: T) -> T:
        """Return how many samples `decode` gives for that many tokens (an int or an int64 tensor)."""
        return self.frames(tokens) * self.decoder.hop_samples

    def tokens_for(self, samples_out: int) -> int:
        """Return the tokens of the fewest whole frames that decode to at least that many samples."""
        quantizer = self.quantizer
        samples_per_group = self.decoder.hop_samples * quantizer.frames_per_token
        return -(-samples_out // samples_per_group) * quantizer.tokens_per_frame

    @property
    def chunk_samples_in(self) -> int:
        return self.chunk_frames * self.encoder.hop_samples

    @property
    def chunk_samples_out(self) -> int:
        return self.chunk_frames * self.decoder.hop_samples

    @property
    def latency_ms(self) -> float:
        """Algorithmic latency: one chunk must be heard before it can be coded, plus decoder delay."""
        chunk_s = self.chunk_samples_in / self.encoder.sample_rate_hz
        return 1000 * (chunk_s + self.decoder.delay_samples / self.decoder.sample_rate_hz)

    @property
    def streams(self) -> bool:
        return self.encoder.streams and self.quantizer.streams and self.decoder.streams
