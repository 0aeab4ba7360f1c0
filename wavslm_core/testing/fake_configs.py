"""Configs of the fakes: the smallest parts that obey every contract. No torch here, as in any plugin."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from wavslm_core.parts.configs import (
    BackboneConfig,
    DecoderConfig,
    DiscriminatorConfig,
    EncoderConfig,
    HeadConfig,
    QuantizerConfig,
    SamplerConfig,
    linked,
)
from wavslm_core.parts.facts import (
    BackboneFacts,
    DecoderFacts,
    EncoderFacts,
    HeadFacts,
    QuantizerFacts,
    SamplerFacts,
)


class FakeEncoderConfig(EncoderConfig):
    """A linear map of each hop of waveform."""

    name: Literal["fake"] = "fake"
    dim: int = Field(default=16, gt=0)
    """Width of the features."""
    chunk_frames: int = Field(default=4, gt=0)
    """Frames in a streaming chunk."""
    hop_samples: int = Field(default=320, gt=0)
    """Samples per frame, at 16 kHz."""

    def facts(self) -> EncoderFacts:
        return EncoderFacts(
            sample_rate_hz=16000,
            hop_samples=self.hop_samples,
            output_dim=self.dim,
            chunk_frames=self.chunk_frames,
            causal=True,
            streams=True,
        )


class FakeQuantizerConfig(QuantizerConfig):
    """The signs of a linear map of each frame."""

    loss_weights: ClassVar[dict[str, float]] = {"commitment": 0.0}

    name: Literal["fake"] = "fake"
    input_dim: int = linked("encoder.output_dim")
    """Width of the features."""
    bits: int = Field(default=5, gt=0, le=16)
    """The codebook has 2 to that power entries."""
    max_run: int = Field(default=1, gt=0)
    """Frames that a merged token stands for at most; 1: nothing is merged."""

    def facts(self) -> QuantizerFacts:
        return QuantizerFacts(
            input_dim=self.input_dim,
            output_dim=self.input_dim,
            vocab_size=2**self.bits * self.max_run,
            ids_per_place=2**self.bits,
            max_run=self.max_run,
            code_parts=(2,) * self.bits if self.max_run == 1 else None,
            losses=self.loss_weights,
            causal=True,
            streams=True,
        )


class FakeDecoderConfig(DecoderConfig):
    """A linear map of each frame to a hop of waveform, late by `delay_samples` when streamed."""

    name: Literal["fake"] = "fake"
    input_dim: int = linked("quantizer.output_dim")
    """Width of the features."""
    hop_samples: int = Field(default=320, gt=0)
    """Samples per frame, at 16 kHz."""
    delay_samples: int = Field(default=0, ge=0)
    """Samples by which streamed output lags."""

    def facts(self) -> DecoderFacts:
        return DecoderFacts(
            input_dim=self.input_dim,
            sample_rate_hz=16000,
            hop_samples=self.hop_samples,
            delay_samples=self.delay_samples,
            causal=True,
            streams=True,
        )


class FakeBackboneConfig(BackboneConfig):
    """A GRU."""

    name: Literal["fake"] = "fake"
    input: Literal["features", "embedding"] = "features"
    """Read the quantizer's features, or tokens through an own table."""
    input_dim: int = linked("quantizer.output_dim")
    """Width of the features."""
    vocab_size: int = linked("quantizer.vocab_size")
    """Number of codes, for the table."""
    dim: int = Field(default=16, gt=0)
    """Width of the hidden states."""

    def facts(self) -> BackboneFacts:
        return BackboneFacts(input=self.input, input_dim=self.input_dim, output_dim=self.dim)


class FakeHeadConfig(HeadConfig):
    """A linear map whose output at t predicts token t + chunk_tokens."""

    name: Literal["fake"] = "fake"
    input_dim: int = linked("backbone.output_dim")
    """Width of the hidden states."""
    vocab_size: int = linked("quantizer.vocab_size")
    """Number of codes."""
    chunk_tokens: int = Field(default=4, gt=0)
    """Tokens per proposal."""

    def facts(self) -> HeadFacts:
        return HeadFacts(input_dim=self.input_dim, vocab_size=self.vocab_size, chunk_tokens=self.chunk_tokens)


class FakeSamplerConfig(SamplerConfig):
    """Draws from the whole distribution."""

    name: Literal["fake"] = "fake"

    def facts(self) -> SamplerFacts:
        return SamplerFacts()


class FakeDiscriminatorConfig(DiscriminatorConfig):
    """Two convolutions."""

    name: Literal["fake"] = "fake"
    channels: int = Field(default=8, gt=0)
    """Channels between the two."""
