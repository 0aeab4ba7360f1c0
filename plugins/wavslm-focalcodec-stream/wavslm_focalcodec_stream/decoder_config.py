"""Configs of the decoders `wavenext`, `vocos` and `istft`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from wavslm_core.plugin import DecoderConfig, DecoderFacts, linked


class ConvNeXtDecoderConfig(DecoderConfig):
    """What all three decoders have: a ConvNeXt backbone at the frame rate."""

    input_dim: int = linked("quantizer.output_dim")
    """Width of the features."""
    sample_rate_hz: int = Field(default=24000, gt=0)
    """Sample rate of the waveform; the frame rate times `hop_samples`."""
    hop_samples: int = Field(default=480, gt=0)
    """Samples per frame."""
    num_layers: int = Field(default=8, gt=0)
    """ConvNeXt blocks."""
    dim: int = Field(default=1024, gt=0)
    """Width of the blocks."""
    ffn_dim: int = Field(default=2048, gt=0)
    """Inner width of the blocks."""
    kernel_size: int = Field(default=7, gt=0)
    """Frames that each convolution sees."""
    layerscale_init: float | None = None
    """Initial scale of each block's branch; None: 1 / num_layers."""

    def _facts(self, *, causal: bool, delay_samples: int = 0) -> DecoderFacts:
        return DecoderFacts(
            input_dim=self.input_dim,
            sample_rate_hz=self.sample_rate_hz,
            hop_samples=self.hop_samples,
            delay_samples=delay_samples,
            causal=causal,
            streams=causal,
        )


class WaveNeXtConfig(ConvNeXtDecoderConfig):
    """Each frame's samples straight from a linear layer."""

    name: Literal["wavenext"] = "wavenext"
    causal: bool = True
    """Convolutions that never see the future, which stream."""

    def facts(self) -> DecoderFacts:
        return self._facts(causal=self.causal)


class SpectralDecoderConfig(ConvNeXtDecoderConfig):
    """Decoders that predict spectra."""

    sample_rate_hz: int = Field(default=16000, gt=0)
    """Sample rate of the waveform; the frame rate times `hop_samples`."""
    hop_samples: int = Field(default=320, gt=0)
    """Samples per frame."""
    n_fft: int = Field(default=1024, gt=0)
    """Samples that each predicted spectrum describes."""


class VocosConfig(SpectralDecoderConfig):
    """Spectra of overlapping windows, or in causal models of windows of which the last hop is kept."""

    name: Literal["vocos"] = "vocos"
    dim: int = Field(default=512, gt=0)
    """Width of the blocks."""
    ffn_dim: int = Field(default=1536, gt=0)
    """Inner width of the blocks."""
    causal: bool = False
    """Convolutions that never see the future and no overlap, which stream."""

    @model_validator(mode="after")
    def _window_holds_a_hop(self) -> Self:
        if self.n_fft % 2 or self.n_fft < self.hop_samples:
            raise ValueError(f"n_fft {self.n_fft} must be even and at least hop_samples {self.hop_samples}")
        if not self.causal and (self.n_fft - self.hop_samples) % 2:
            raise ValueError(
                f"n_fft {self.n_fft} − hop_samples {self.hop_samples} is odd: half of it is trimmed at both "
                "ends, so make hop_samples even"
            )
        return self

    def facts(self) -> DecoderFacts:
        return self._facts(causal=self.causal)


class IstftConfig(SpectralDecoderConfig):
    """Causal ConvNeXt and overlap-add inverse STFT: learns fast and streams, at n_fft − hop of latency."""

    name: Literal["istft"] = "istft"
    n_fft: int = Field(default=1280, gt=0)
    """Samples that each predicted spectrum describes: a whole multiple, 2 or more, of `hop_samples`."""
    num_layers: int = Field(default=4, gt=0)
    """ConvNeXt blocks."""
    dim: int = Field(default=192, gt=0)
    """Width of the blocks."""
    ffn_dim: int = Field(default=384, gt=0)
    """Inner width of the blocks."""
    max_log_magnitude: float = 5.0
    """Log-magnitudes are clipped here, so that no frame can explode."""

    @model_validator(mode="after")
    def _constant_overlap(self) -> Self:
        if self.n_fft % self.hop_samples or self.n_fft < 2 * self.hop_samples or self.n_fft % 2:
            raise ValueError(
                f"n_fft {self.n_fft} must be even and a whole multiple (2 or more) of hop_samples "
                f"{self.hop_samples}, so that overlapping windows add up to a constant: "
                f"use {2 * self.hop_samples} or {4 * self.hop_samples}"
            )
        return self

    def facts(self) -> DecoderFacts:
        return self._facts(causal=True, delay_samples=self.n_fft - self.hop_samples)
