"""Codec, backbone, head and sampler as one: what all that scores, draws or speaks is handed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from wavslm_core.data.arguments import Given, first_floats
from wavslm_core.errors import CheckpointError, RecipeError
from wavslm_core.model.chunk_step import ChunkEngine
from wavslm_core.model.codec import Codec
from wavslm_core.model.prompts import resampled
from wavslm_core.model.sampling import DAMAGED
from wavslm_core.parts.blocks import config_from_dict
from wavslm_core.parts.configs import SamplerConfig
from wavslm_core.parts.facts import BackboneFacts, HeadFacts, sampler_problem
from wavslm_core.parts.interfaces import Backbone, Head, Sampler
from wavslm_core.parts.lengths import valid_mask
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.promises import check_width

SamplerLike = Sampler | SamplerConfig | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
"""A sampler, its config or options, those of several in a row, or None for the model's own."""


@dataclass(frozen=True)
class SpeechScore:
    """How likely speech is to a language model."""

    tokens_BT: Tensor
    """What was scored, zeros or anything where padded."""
    log_probs_BT: Tensor
    """log p(token | its past) in nats; NaN in the first chunk and where padded."""

    @property
    def nats(self) -> Tensor:
        """The log-likelihood of each utterance, (B,) float64; 0 of nothing."""
        return self.log_probs_BT.double().nansum(dim=1)

    @property
    def counts(self) -> Tensor:
        """How many tokens of each utterance are scored, (B,) int64."""
        return (~self.log_probs_BT.isnan()).sum(dim=1)


class TokenLM(nn.Module):
    """The parts of a language model, and how likely speech is to it; `SpeechLM` is what people use."""

    def __init__(self, codec: Codec, backbone: Backbone[Any], head: Head[Any], sampler: Sampler) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.sampler = sampler
        # In a tuple, so that nn.Module neither trains, converts nor saves the codec with the model.
        self._codec = (codec.eval().requires_grad_(False),)
        self.backbone_facts = cast(BackboneFacts, backbone.config.facts())
        self.head_facts = cast(HeadFacts, head.config.facts())
        self.chunk_engine: ChunkEngine | None = None
        """What makes the whole step of one row for a chunk, if an engine does."""

    @property
    def codec(self) -> Codec:
        return self._codec[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Do what `to` and its like ask for, and take the codec along to another device."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        here = first_floats(self.codec)
        there = fn(here.new_empty(0)).device
        if there != here.device and not here.is_meta:
            self.codec.to(there)
        return self

    @property
    def chunk_tokens(self) -> int:
        """Tokens that one generation step gives."""
        return self.head_facts.chunk_tokens

    @property
    def reads_features(self) -> bool:
        """Whether the backbone reads the codec's features of tokens, and not the tokens themselves."""
        return self.backbone_facts.input == "features"

    @property
    def streams(self) -> bool:
        """Whether `generate` works: whatever it runs chunk by chunk can."""
        return self.backbone_facts.streams and (self.codec.facts.quantizer.streams or not self.reads_features)

    @property
    def token_device(self) -> torch.device:
        """The device of what reads tokens first."""
        first = (self.codec.quantizer,) if self.reads_features else (self.backbone,)
        return first_floats(*first, self.codec).device

    def inputs(self, tokens_BT: Given, *, lengths: Given | None = None) -> Tensor:
        """Return what the backbone reads: the codec's features (B,T,D), or the tokens themselves."""
        return self._inputs(*self.checked_tokens(tokens_BT, lengths))

    def _inputs(self, tokens_BT: Tensor, lengths: Tensor | None) -> Tensor:
        if not self.reads_features:
            return tokens_BT
        # In full precision under autocast too: training must see the features that generation will see.
        with torch.autocast(tokens_BT.device.type, enabled=False):
            return self.codec.features(tokens_BT, lengths)

    def log_probs(self, tokens_BT: Given, *, lengths: Given | None = None) -> Tensor:
        """Return log p(token | its past) in nats, (B,T) float32; differentiable.

        NaN where nothing predicts (the first chunk) and, with `lengths`, in padded places.
        """
        return self._log_probs(*self.checked_tokens(tokens_BT, lengths))

    def _log_probs(self, tokens_BT: Tensor, lengths: Tensor | None) -> Tensor:
        if tokens_BT.shape[1] == 0:
            return tokens_BT.float()
        hidden_BTD = self.backbone(self._inputs(tokens_BT, lengths), lengths=lengths)
        check_width(self.backbone, hidden_BTD, output_dim=self.backbone_facts.output_dim)
        return self.head.log_probs(hidden_BTD, tokens_BT, lengths=lengths)

    def predicted(self, tokens_BT: Given, *, lengths: Given | None = None) -> Tensor:
        """Return at which places `log_probs` has a number: valid ones after the first chunk, (B,T) bool."""
        return self._predicted(*self.checked_tokens(tokens_BT, lengths))

    def _predicted(self, tokens_BT: Tensor, lengths: Tensor | None) -> Tensor:
        predicted_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
        if lengths is not None:
            predicted_BT = valid_mask(lengths, tokens_BT.shape[1])
        predicted_BT[:, : self.chunk_tokens] = False
        return predicted_BT

    def scored(self, tokens_BT: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return `log_probs` and `predicted` for what `checked_tokens` gave.

        Looking at values again costs time, and on a GPU a wait.
        """
        return self._log_probs(tokens_BT, lengths), self._predicted(tokens_BT, lengths)

    @torch.no_grad()
    def score(self, tokens_BT: Given, *, lengths: Given | None = None) -> Tensor:
        """Return `log_probs` for evaluation, (B,T) float32, NaN only where nothing predicts.

        Raises: CheckpointError when the model gives NaN for a token that it predicts.
        """
        log_probs_BT, predicted_BT = self.scored(*self.checked_tokens(tokens_BT, lengths))
        broken = int((log_probs_BT.isnan() & predicted_BT).sum())
        if broken:
            raise CheckpointError(
                f"the language model gives no number for {broken} tokens that it should predict: {DAMAGED}"
            )
        return log_probs_BT

    @torch.no_grad()
    def score_speech(
        self, waveform_BS: Given, *, sample_rate: float, lengths: Given | None = None
    ) -> SpeechScore:
        """Return how likely speech is: waveforms (B,S) at `sample_rate` Hz, resampled and encoded.

        Nothing of the head's first chunk is scored, for it has no past. `lengths` counts samples.
        Raises: AudioError, ArgumentError; CheckpointError when the model gives NaN.
        """
        codec = self.codec
        waveform_BS, samples = resampled(codec, waveform_BS, sample_rate=sample_rate, lengths=lengths)
        tokens_BT, counts_B = codec.tokens(waveform_BS, lengths=samples)
        return SpeechScore(tokens_BT, self.score(tokens_BT, lengths=counts_B))

    def forward(self, tokens_BT: Given, *, lengths: Given | None = None) -> Tensor:
        """The same as `log_probs`, so that wrappers which call the module work."""
        return self.log_probs(tokens_BT, lengths=lengths)

    def make_sampler(self, sampler: SamplerLike) -> Sampler:
        """Return the given sampler, one built from `{"name": …}` or a list of such, or the model's own.

        Raises: RecipeError for an unknown name or option, or a sampler that does not suit the head.
        """
        if sampler is None:
            sampler = self.sampler
        if not isinstance(sampler, Sampler):
            config = sampler
            if not isinstance(config, SamplerConfig):
                config = cast(SamplerConfig, config_from_dict("sampler", sampler, where="sampler"))
            sampler = cast(Sampler, load_registry().build(config))
        problem = sampler_problem(self.head_facts, sampler.config.facts())
        if problem:
            raise RecipeError(f"sampler: {problem}")
        return sampler

    def checked_tokens(self, tokens_BT: Given, lengths: Given | None = None) -> tuple[Tensor, Tensor | None]:
        """Return tokens (B,T) int64 and lengths (B,) int64, on the device of what reads them first.

        Raises: ArgumentError.
        """
        return self.codec.checked_tokens(tokens_BT, lengths, device=self.token_device)
