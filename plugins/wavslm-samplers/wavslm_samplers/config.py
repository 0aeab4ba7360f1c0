"""Options of the samplers."""

from typing import Literal

from pydantic import Field

from wavslm_core.plugin import SamplerConfig, SamplerFacts


class TopPConfig(SamplerConfig):
    """Nucleus sampling: the likeliest tokens until their probability reaches p."""

    name: Literal["top_p"] = "top_p"
    p: float = Field(default=0.3, ge=0, le=1)
    """Tokens whose more likely ones already hold more than p are dropped; 0 is greedy."""
    temperature: float = Field(default=1.0, gt=0)
    """Logits are divided by it first; WavSLM generates with 0.8."""

    def facts(self) -> SamplerFacts:
        return SamplerFacts(greedy=self.p == 0)


class TopKConfig(SamplerConfig):
    """Sampling among the k likeliest tokens."""

    name: Literal["top_k"] = "top_k"
    k: int = Field(default=25, gt=0)
    """Tokens kept; 1 is greedy, more than there are codes keeps all."""
    temperature: float = Field(default=1.0, gt=0)
    """Logits are divided by it first; WavSLM generates with 0.8."""

    def facts(self) -> SamplerFacts:
        return SamplerFacts(greedy=self.k == 1)


class MinPConfig(SamplerConfig):
    """Sampling among tokens at least p times as likely as the likeliest."""

    name: Literal["min_p"] = "min_p"
    p: float = Field(default=0.1, ge=0, le=1)
    """Fraction of the top probability that a token must reach; 1 is greedy but for ties."""
    temperature: float = Field(default=1.0, gt=0)
    """Logits are divided by it first; WavSLM generates with 0.8."""

    def facts(self) -> SamplerFacts:
        return SamplerFacts()


class TypicalConfig(SamplerConfig):
    """Locally typical sampling: tokens about as surprising as one expects (arXiv 2202.00666)."""

    name: Literal["typical"] = "typical"
    p: float = Field(default=0.9, gt=0, le=1)
    """Tokens are kept, those closest to the expected surprise first, until they hold more than p."""
    temperature: float = Field(default=1.0, gt=0)
    """Logits are divided by it first."""

    def facts(self) -> SamplerFacts:
        return SamplerFacts()


class TemperatureConfig(SamplerConfig):
    """Logits divided by a temperature that may change as the continuation grows."""

    name: Literal["temperature"] = "temperature"
    start: float = Field(default=1.0, gt=0)
    """Temperature of the first new token."""
    end: float | None = Field(default=None, gt=0)
    """Temperature after `over_tokens`, and from then on; none: it stays."""
    over_tokens: int = Field(default=100, gt=0)
    """Tokens over which the temperature goes from `start` to `end`, in equal ratios."""

    def facts(self) -> SamplerFacts:
        return SamplerFacts()


class RepetitionAwareConfig(SamplerConfig):
    """Nucleus sampling that draws from all tokens where it would repeat itself (VALL-E 2, 2406.05370)."""

    name: Literal["repetition_aware"] = "repetition_aware"
    p: float = Field(default=0.8, ge=0, le=1)
    """As in `top_p`."""
    temperature: float = Field(default=1.0, gt=0)
    """Logits are divided by it first."""
    window_tokens: int = Field(default=10, gt=0)
    """Tokens in which repetitions are counted."""
    max_share: float = Field(default=0.1, ge=0, lt=1)
    """A token that makes up more than this share of the window counts as repeated."""

    def facts(self) -> SamplerFacts:
        return SamplerFacts(history_tokens=self.window_tokens)


class RepetitionPenaltyConfig(SamplerConfig):
    """Tokens heard lately are made less likely, each time a little more."""

    name: Literal["repetition_penalty"] = "repetition_penalty"
    penalty_nats: float = Field(default=0.5, ge=0)
    """Taken from a token's logit for each time that it stands in the window."""
    window_tokens: int = Field(default=50, gt=0)
    """Tokens that are looked back."""

    def facts(self) -> SamplerFacts:
        return SamplerFacts(history_tokens=self.window_tokens)


class BestOfConfig(SamplerConfig):
    """Draw several continuations and keep the likeliest; leaves each distribution as it is."""

    name: Literal["best_of"] = "best_of"
    candidates: int = Field(default=4, gt=0)
    """Continuations drawn for each that is kept. More than one cannot be heard while they are drawn."""

    def facts(self) -> SamplerFacts:
        return SamplerFacts(candidates=self.candidates)


class GreedyConfig(SamplerConfig):
    """Always the likeliest token."""

    name: Literal["greedy"] = "greedy"

    def facts(self) -> SamplerFacts:
        return SamplerFacts(greedy=True)
