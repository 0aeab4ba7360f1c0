"""Options of the discriminators. Defaults are the published sizes; small sets on CPUs want narrow ones."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from wavslm_core.plugin import DiscriminatorConfig, SpectralWindows


class MultiPeriodConfig(DiscriminatorConfig):
    """Each sub-discriminator sees the waveform folded by a period (HiFi-GAN, arXiv 2010.05646)."""

    name: Literal["multi_period"] = "multi_period"
    periods: tuple[PositiveInt, ...] = Field(default=(2, 3, 5, 7, 11), min_length=1)
    """Samples by which the waveform is folded, one for each sub-discriminator; primes overlap least."""
    channels: int = Field(default=1024, ge=32, multiple_of=32)
    """Channels of the widest layers; those before have 1/32, 1/8 and 1/2 of them. 64 does for small runs."""


class MultiScaleConfig(DiscriminatorConfig):
    """Each sub-discriminator sees the waveform at half the rate of the one before (MelGAN, arXiv 1910.06711,
    as in HiFi-GAN, arXiv 2010.05646)."""

    name: Literal["multi_scale"] = "multi_scale"
    scales: int = Field(default=3, gt=0)
    """Sub-discriminators; the first hears the waveform as it is and has spectral norm, others weight norm."""
    channels: int = Field(default=1024, ge=32, multiple_of=32)
    """Channels of the widest layers; those before have 1/8 to 1/2 of them. 64 does for small runs."""


class MultiResolutionStftConfig(DiscriminatorConfig):
    """Each sub-discriminator sees a spectrogram of another resolution (UnivNet, arXiv 2106.07889: magnitudes;
    EnCodec, arXiv 2210.13438: complex numbers)."""

    name: Literal["multi_resolution_stft"] = "multi_resolution_stft"
    spectrum: Literal["complex", "magnitude"] = "complex"
    """What is seen of the spectrum: real and imaginary parts as two channels, or magnitudes."""
    window_samples: SpectralWindows = (2048, 1024, 512, 256, 128)
    """Windows, one for each sub-discriminator; they overlap by three quarters."""
    channels: int = Field(default=32, gt=0)
    """Channels of all layers. 8 does for small runs."""
    dilations: tuple[PositiveInt, ...] = Field(default=(1, 2, 4), min_length=1)
    """Dilations in time of the layers between the first and the last two, each of which halves the bands."""
