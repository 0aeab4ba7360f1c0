"""Options of the next-chunk head and of the samplers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from wavslm_core.configs import HeadConfig, SamplerConfig, linked
from wavslm_core.facts import HeadFacts, SamplerFacts


class NextChunkConfig(HeadConfig):
    """A linear head whose logits at position t predict token t + chunk_tokens (WavSLM)."""

    name: Literal["next_chunk"] = "next_chunk"
    input_dim: int = linked("backbone.output_dim")
    """Width of the hidden states."""
    vocab_size: int = linked("quantizer.vocab_size")
    """Number of codes."""
    chunk_tokens: int = Field(default=4, gt=0)
    """Tokens predicted at once, independently of each other given what came before."""

    def facts(self) -> HeadFacts:
        return HeadFacts(input_dim=self.input_dim, vocab_size=self.vocab_size, chunk_tokens=self.chunk_tokens)


class TopPConfig(SamplerConfig):
    """Nucleus sampling: the likeliest tokens until their probability reaches p."""

    name: Literal["top_p"] = "top_p"
    p: float = Field(default=0.3, ge=0, le=1)
    """Tokens whose more likely ones already hold more than p are dropped; 0 is greedy."""
    temperature: float = Field(default=0.8, gt=0)
    """Logits are divided by it first."""

    def facts(self) -> SamplerFacts:
        return SamplerFacts(greedy=self.p == 0)


class TopKConfig(SamplerConfig):
    """Sampling among the k likeliest tokens."""

    name: Literal["top_k"] = "top_k"
    k: int = Field(default=25, gt=0)
    """Tokens kept; 1 is greedy, more than there are codes keeps all."""
    temperature: float = Field(default=0.8, gt=0)
    """Logits are divided by it first."""

    def facts(self) -> SamplerFacts:
        return SamplerFacts(greedy=self.k == 1)


class MinPConfig(SamplerConfig):
    """Sampling among tokens at least p times as likely as the likeliest."""

    name: Literal["min_p"] = "min_p"
    p: float = Field(default=0.1, ge=0, le=1)
    """Fraction of the top probability that a token must reach; 1 is greedy but for ties."""
    temperature: float = Field(default=0.8, gt=0)
    """Logits are divided by it first."""

    def facts(self) -> SamplerFacts:
        return SamplerFacts()


class GreedyConfig(SamplerConfig):
    """Always the likeliest token."""

    name: Literal["greedy"] = "greedy"

    def facts(self) -> SamplerFacts:
        return SamplerFacts(greedy=True)
