"""The six roles and the streaming contract. Everything swappable in a speech language model is here.

    waveform (B,S) ─ Encoder ─► features (B,T,D) ─ Quantizer.encode ─► tokens (B,T)
    tokens (B,T) ─ Quantizer.decode ─► features (B,T,D) ─┬─ Decoder ─► waveform (B,S')
                                                         └─ Backbone ─► hidden (B,T,D) ─ Head ─► tokens (B,C)

Between codec and language model, a quantizer may merge runs of equal tokens: `compact` and `expand`.

Suffixes name dimensions: B batch, S samples, T frames or tokens, D width, V vocabulary, C chunk, N rows.

**Lengths.** `lengths` (int64) counts the valid samples, frames or tokens of each item; None means all.
Padding never changes a valid result; what stands in padded places of an output means nothing.

**Streaming.** `init_state(batch_size)` and `step(x, state) → (y, state)`. `x` is any number of whole
chunks (`facts.chunk_frames`, `chunk_tokens` or the samples thereof). A state is a flat tuple of tensors
whose shapes never change: ring caches with a write position, so memory and time per step are constant.
A step may write into the state it was given: that state may not be used again. A tensor without a dimension
of rows holds for all of them: it never changes, or it is one number, such as a position, which is given as
(B,) where rows are at different places of their streams. Steps over chunks, concatenated, equal `forward`.
A part that cannot stream says `streams=False` in its facts.

**Building.** A part is built as `Class(config)`, in fp32, on the device of `torch.device(...)` contexts
(the meta device included), with random weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from wavslm_core.errors import CheckpointError, StreamingError
from wavslm_core.parts.configs import (
    BackboneConfig,
    DecoderConfig,
    DiscriminatorConfig,
    EncoderConfig,
    FormatConfig,
    HeadConfig,
    PartConfig,
    QuantizerConfig,
    Role,
    SamplerConfig,
)
from wavslm_core.parts.facts import QuantizerFacts
from wavslm_core.parts.lengths import merge_runs, split_runs

State = tuple[Tensor, ...]

ConfigT = TypeVar("ConfigT", bound=PartConfig)
DiscriminatorConfigT = TypeVar("DiscriminatorConfigT", bound=DiscriminatorConfig)


class Part(nn.Module, Generic[ConfigT]):
    """Base of the roles that hold weights. `self.config` is frozen; facts come from it."""

    def __init__(self, config: ConfigT) -> None:
        super().__init__()
        self.config: ConfigT = config

    def no_streaming(self) -> StreamingError:
        """Return the error that `step` raises in a part whose facts say `streams=False`."""
        return StreamingError(
            f"{self.config.role} '{getattr(self.config, 'name', '?')}' does not stream as configured: "
            "use a causal configuration, or process whole waveforms"
        )


class Encoder(Part[ConfigT], ABC):
    """Waveform at `facts.sample_rate_hz` to features. ConfigT: an `EncoderConfig`."""

    @abstractmethod
    def forward(self, waveform_BS: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Return features (B,T,D) with T = `frame_lengths(S)`."""

    @abstractmethod
    def frame_lengths(self, sample_lengths: Tensor) -> Tensor:
        """Return how many frames `forward` gives for that many samples (any shape, int64)."""

    def init_state(self, batch_size: int) -> State:
        raise self.no_streaming()

    def step(self, waveform_BS: Tensor, state: State) -> tuple[Tensor, State]:
        """Return features (B, S / hop, D) for whole chunks of samples, and the next state."""
        raise self.no_streaming()


class LayeredEncoder(Encoder[ConfigT]):
    """One that can be distilled: a causal encoder learns from its full-context twin, layer by layer.

    Its facts say how many `layers` its features have passed.
    """

    @abstractmethod
    def hidden_states(self, waveform_BS: Tensor, *, lengths: Tensor | None = None) -> Sequence[Tensor]:
        """Return tensors (B,T,D): the input of the first layer, then what each layer gives, to the last."""

    @property
    @abstractmethod
    def positional(self) -> nn.Module:
        """Maps what `positional_input` gives to (B,T,D), added to it to tell frames where they are."""

    @abstractmethod
    def positional_input(self, waveform_BS: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Return what `positional` is given, (B,T,D), zero in padded places."""

    @property
    @abstractmethod
    def positions(self) -> Sequence[nn.Module]:
        """All that tells layers where frames are; it rests while layers are distilled."""

    @abstractmethod
    def lowest(self, layers: int) -> Encoder[Any]:
        """Return an encoder of the lowest layers alone, with the same context and weights of its own."""

    @abstractmethod
    def adopt(self, teacher: Encoder[Any]) -> None:
        """Take over the weights of an encoder of the same sizes, from its lowest layer on.

        Raises: CheckpointError naming what differs.
        """


@dataclass
class QuantizerOutput:
    """What training needs from a quantizer in one pass."""

    features_BTD: Tensor
    """Reconstructed features; gradients pass straight through the codes."""
    tokens_BT: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    """Scalar losses of its own, those that `facts.losses` names, unweighted and over valid tokens."""


class Quantizer(Part[ConfigT], ABC):
    """Features to one stream of tokens and back; owns compressor, codes and decompressor."""

    @abstractmethod
    def encode(self, features_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Return tokens (B, `token_lengths(T)`) int64; `lengths` counts frames."""

    @abstractmethod
    def decode(self, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Return features (B, T·frames_per_token / tokens_per_frame, D) of whole frames.

        `lengths` counts tokens.
        """

    @abstractmethod
    def forward(
        self, features_BTD: Tensor, *, lengths: Tensor | None = None, bypass_codes: bool = False
    ) -> QuantizerOutput:
        """Encode and decode with gradients, for training.

        `bypass_codes` leaves out the rounding to codes (not the bottleneck's width), for the
        continuous warm-up that keeps a codebook from collapsing.
        """

    def token_lengths(self, frame_lengths: Tensor) -> Tensor:
        """Return how many tokens `encode` gives for that many frames (any shape, int64)."""
        facts = cast(QuantizerFacts, self.config.facts())
        groups = (frame_lengths + facts.frames_per_token - 1) // facts.frames_per_token
        return groups * facts.tokens_per_frame

    def compact(self, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return what a language model reads of tokens: (B,U), and how many each item has (B,).

        Unchanged unless `facts.max_run` is above 1; then runs of equal tokens are merged, and `decode` gives
        one feature vector for each run that tells its length too.
        """
        lengths = _full(tokens_BT) if lengths is None else lengths
        max_run = cast(QuantizerFacts, self.config.facts()).max_run
        if max_run == 1:
            return tokens_BT, lengths
        # Those that are merged already are split first, so that the result is the same for the same speech.
        return merge_runs(*split_runs(tokens_BT, lengths, max_run=max_run), max_run=max_run)

    def expand(self, tokens_BU: Tensor, *, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo `compact`, token by token: tokens as `encode` gives them (B,T), and how many each item has."""
        lengths = _full(tokens_BU) if lengths is None else lengths
        max_run = cast(QuantizerFacts, self.config.facts()).max_run
        return (tokens_BU, lengths) if max_run == 1 else split_runs(tokens_BU, lengths, max_run=max_run)

    def init_encode_state(self, batch_size: int) -> State:
        raise self.no_streaming()

    def encode_step(self, features_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        raise self.no_streaming()

    def init_decode_state(self, batch_size: int) -> State:
        raise self.no_streaming()

    def decode_step(self, tokens_BT: Tensor, state: State) -> tuple[Tensor, State]:
        raise self.no_streaming()


def _full(tokens_BT: Tensor) -> Tensor:
    """Return lengths (B,) that say that nothing is padded."""
    return torch.full(tokens_BT.shape[:1], tokens_BT.shape[1], device=tokens_BT.device)


class Decoder(Part[ConfigT], ABC):
    """Features to waveform at `facts.sample_rate_hz`.

    `forward` is aligned with its input. Streamed output lags by `facts.delay_samples`: the steps,
    then `flush`, concatenated and with the first `delay_samples` cut off, equal `forward`.
    """

    @abstractmethod
    def forward(self, features_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Return the waveform (B, T·hop); `lengths` counts frames."""

    def init_state(self, batch_size: int) -> State:
        raise self.no_streaming()

    def step(self, features_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the next T·hop samples (B, T·hop), delayed by `delay_samples`, and the next state."""
        raise self.no_streaming()

    def flush(self, state: State) -> Tensor:
        """Return the last `delay_samples` samples (B, delay) after the last step."""
        raise self.no_streaming()


class Backbone(Part[ConfigT], ABC):
    """Quantizer features (B,T,D) or tokens (B,T) int64, as its facts' `input` says, to hidden states."""

    @abstractmethod
    def forward(self, inputs: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Return hidden states (B,T,D); none depends on anything after the end of its chunk."""

    def adopt(self, encoder: Encoder[Any]) -> None:
        """Take over the weights of layers of an encoder; which ones, the config says.

        Raises: CheckpointError naming what differs, or when this backbone has no such layers.
        """
        raise CheckpointError(
            f"the backbone '{self.config.registered_name()}' cannot start as layers of an encoder. Use one "
            "that can, such as wavlm_upper"
        )

    def init_state(self, batch_size: int) -> State:
        raise self.no_streaming()

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        raise self.no_streaming()


@dataclass(frozen=True)
class SamplingContext:
    """What a sampler may look at besides the logits. Rows are draws: N = batch · tokens drawn at once."""

    positions_N: Tensor
    """How many tokens were generated before each drawn one, (N,) int64; 0 right after the prompt."""
    history_NH: Tensor
    """The last H = `facts.history_tokens` tokens known by then, oldest first, (N,H) int64; -1 for none."""


class Sampler(ABC):
    """Reshapes the distribution that tokens are drawn from. Has no weights and no state.

    Samplers compose: each sees the logits that the one before it left. The draw itself, by inversion of
    the cumulative distribution with one uniform number a token, is `wavslm_core.model.sampling`'s.
    """

    def __init__(self, config: SamplerConfig) -> None:
        self.config = config

    @abstractmethod
    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        """Return the logits (N,V) float32 to draw from; -inf drops a token, and at least one stays.

        A row of the result is a function of its own row of the arguments alone. May not write into
        `logits_NV`.
        """


class Draw(ABC):
    """How a head turns logits into tokens: the sampler, the random numbers and what was generated so far."""

    @property
    @abstractmethod
    def before_BT(self) -> Tensor:
        """The tokens right before the chunk to propose, oldest first, (B,T) int64.

        At least those whose hidden states the head is given.
        """

    @abstractmethod
    def tokens(self, logits_BKV: Tensor) -> Tensor:
        """Draw the next K tokens of each row, independently of each other given the logits, (B,K) int64."""

    @abstractmethod
    def symbols(self, logits_BKV: Tensor) -> Tensor:
        """Draw K symbols that tokens are made of, such as bits, (B,K) int64.

        The sampler reshapes each symbol's distribution as if it were a token's, without history.
        """


class Head(Part[ConfigT], ABC):
    """Owns which hidden state predicts which token, and how.

    It is given token ids and hidden states only: a head that reads tokens, such as those drawn before in a
    chunk, owns the table for it.
    """

    @abstractmethod
    def log_probs(self, hidden_BTD: Tensor, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Return log p(token | its past) in nats, (B,T) float32.

        NaN where nothing predicts (the first chunk) and, with `lengths`, in padded places. A token's past
        is every chunk before its own and, if the head models them, the tokens before it in its chunk.
        """

    @abstractmethod
    def propose(self, hidden_BCD: Tensor, draw: Draw) -> Tensor:
        """Return the next chunk of tokens (B,C), given the hidden states of the chunk before it."""


@dataclass(frozen=True)
class Judgement:
    """What one sub-discriminator says of waveforms."""

    scores_BN: Tensor
    """How real each place sounds: above 0 real, below 0 made."""
    maps: list[Tensor]
    """What its layers give, (B,…): what feature matching compares."""


class Discriminator(nn.Module, ABC, Generic[DiscriminatorConfigT]):
    """Tells speech from what a codec makes of it; only training knows it. Built as `Class(config)`."""

    def __init__(self, config: DiscriminatorConfigT) -> None:
        super().__init__()
        self.config: DiscriminatorConfigT = config

    @abstractmethod
    def forward(self, waveform_BS: Tensor) -> list[Judgement]:
        """Judge waveforms of any length, one judgement a sub-discriminator, always as many.

        A row is judged by itself.
        """


@dataclass(frozen=True)
class CheckpointParts:
    """A folder of another project's format, read: configs by role, and each part's state dict."""

    configs: dict[Role, PartConfig]
    states: dict[Role, dict[str, Tensor]]
    codec: str | None = None
    """For language models: the codec that the folder names (hub id or path), if any."""
    codec_fingerprint: dict[str, Any] | None = None
    """For language models: `Codec.fingerprint()` of the codec that it was trained with, if known."""


class CheckpointFormat(ABC):
    """Reads and writes the checkpoint folders of another project."""

    def __init__(self, config: FormatConfig) -> None:
        self.config = config

    @abstractmethod
    def read(self, folder: Path) -> CheckpointParts:
        """Read configs and weights. Raises: CheckpointError."""

    @abstractmethod
    def write(self, folder: Path, parts: CheckpointParts) -> None:
        """Write a folder that `read` and the other project read back."""


__all__: Sequence[str] = [
    "Backbone", "BackboneConfig", "CheckpointFormat", "CheckpointParts", "Decoder", "DecoderConfig",
    "Discriminator", "DiscriminatorConfig", "Draw", "Encoder", "EncoderConfig", "Head", "HeadConfig",
    "Judgement", "LayeredEncoder", "Part", "Quantizer", "QuantizerConfig", "QuantizerOutput", "Sampler",
    "SamplingContext", "State",
]  # fmt: skip
