"""What the encoders can be told. Names of what HuBERT and WavLM share are those of the encoder `wavlm`."""

from __future__ import annotations

from math import prod
from typing import Literal, Self

from pydantic import Field, model_validator

from wavslm_core.plugin import EncoderConfig, EncoderFacts

SAMPLES_PER_BAND = 8
"""A window of N samples is read in at most N/8 mel bands; with more, low bands would hold no Fourier bin."""
HUB_SAMPLE_RATE_HZ = 16000


class MelConfig(EncoderConfig):
    """Log-mel frames: no weights, nothing to train or to download, causal."""

    name: Literal["mel"] = "mel"

    sample_rate_hz: int = Field(default=16000, gt=0)
    """Rate of the waveforms that are read."""
    hop_samples: int = Field(default=320, gt=0)
    """Samples per frame: 50 frames a second at 16 kHz."""
    window_samples: int = Field(default=640, gt=0)
    """Samples that a frame sees; they end with its hop."""
    bands: int = Field(default=80, gt=0)
    """Mel bands between 0 Hz and half the sample rate: the width of the features."""
    floor: float = Field(default=1e-4, gt=0)
    """Amplitude relative to full scale that is added before the logarithm; −80 dB."""
    mean_nepers: float = -6.5
    """Subtracted from the logarithms. Constants, so that a frame never depends on other frames."""
    scale_nepers: float = Field(default=1.6, gt=0)
    """Divides them. The two defaults bring read speech to about zero mean and unit variance."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.window_samples < self.hop_samples:
            raise ValueError(
                f"window_samples {self.window_samples} is below hop_samples {self.hop_samples}: "
                "what lies between windows would not be heard"
            )
        most = self.window_samples // SAMPLES_PER_BAND
        if self.bands > most:
            raise ValueError(
                f"bands {self.bands} are too many for window_samples {self.window_samples}: low bands "
                f"would hold no frequency. Give at most {most}, or a longer window"
            )
        return self

    def facts(self) -> EncoderFacts:
        return EncoderFacts(
            sample_rate_hz=self.sample_rate_hz,
            hop_samples=self.hop_samples,
            output_dim=self.bands,
            window_frames=-(-self.window_samples // self.hop_samples),
            causal=True,
            streams=True,
        )


class HubConfig(EncoderConfig):
    """What HuBERT and wav2vec 2.0 have in common; the defaults are those of the base models."""

    checkpoint: str | None = None
    """Initial weights: a folder, name or hub id, in the format of transformers; empty: random ones."""
    layer: int = Field(default=9, ge=0)
    """Layer whose hidden states are the features; 0 is the input of the first. Higher ones are not built."""
    dim: int = Field(default=768, gt=0)
    """Width of the features."""
    ffn_dim: int = Field(default=3072, gt=0)
    """Inner width of the feed-forward parts."""
    num_heads: int = Field(default=12, gt=0)
    """Attention heads; divides `dim`."""
    hidden_dims: tuple[int, ...] = (512,) * 7
    """Channels of each convolution of the front end."""
    kernel_sizes: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    """Kernel size of each convolution."""
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    """Stride of each convolution; their product is the number of samples per frame."""
    conv_bias: bool = False
    """Give the convolutions of the front end a bias; true in large models."""
    conv_pos: int = Field(default=128, gt=0)
    """Kernel size of the positional convolution."""
    conv_pos_groups: int = Field(default=16, gt=0)
    """Groups of the positional convolution."""
    front_end_norm: Literal["layer", "group"] = "group"
    """`layer`: over channels after every convolution (large); `group`: over time after the first (base)."""
    layer_norm_first: bool = False
    """Norm before attention and feed-forward (large); false: after them (base)."""
    normalize_waveform: bool = True
    """Bring each waveform to zero mean and unit variance first."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        sizes = {len(self.hidden_dims), len(self.kernel_sizes), len(self.strides)}
        if len(sizes) != 1 or 0 in sizes:
            raise ValueError(
                f"hidden_dims, kernel_sizes and strides need one value per convolution each, got "
                f"{len(self.hidden_dims)}, {len(self.kernel_sizes)} and {len(self.strides)}"
            )
        if min(*self.hidden_dims, *self.kernel_sizes, *self.strides) < 1:
            raise ValueError("hidden_dims, kernel_sizes and strides must be 1 or more")
        for name, divisor in (("num_heads", self.num_heads), ("conv_pos_groups", self.conv_pos_groups)):
            if self.dim % divisor:
                raise ValueError(f"{name} {divisor} must divide dim {self.dim}")
        return self

    @property
    def receptive_samples(self) -> int:
        """Samples that the first frame is made of."""
        samples = 1
        for kernel, stride in zip(reversed(self.kernel_sizes), reversed(self.strides), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples

    def facts(self) -> EncoderFacts:
        return EncoderFacts(
            sample_rate_hz=HUB_SAMPLE_RATE_HZ, hop_samples=prod(self.strides), output_dim=self.dim
        )


class HubertConfig(HubConfig):
    """HuBERT (Hsu et al. 2021), in full context."""

    name: Literal["hubert"] = "hubert"


class Wav2Vec2Config(HubConfig):
    """wav2vec 2.0 (Baevski et al. 2020), in full context."""

    name: Literal["wav2vec2"] = "wav2vec2"
    layer: int = Field(default=7, ge=0)
    """Layer whose hidden states are the features; 0 is the input of the first. Higher ones are not built."""
