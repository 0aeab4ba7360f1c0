"""What the quantizers of this distribution share: the maps around their codes. No torch here."""

from math import lcm
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from wavslm_core.plugin import Options, QuantizerConfig, QuantizerFacts, linked
from wavslm_vector_quantize.focal_options import FocalCompressorOptions, FocalDecompressorOptions


class FrameMapOptions(Options):
    """Base of the maps that keep the frame rate and take frames one by one."""

    @property
    def factor(self) -> int:
        """Frames for one latent or code."""
        return 1

    @property
    def chunk_frames(self) -> int:
        """Frames that are made together."""
        return 1


class ConvOptions(FrameMapOptions):
    """Causal convolutions with residual connections."""

    name: Literal["conv"] = "conv"
    dim: int | None = Field(default=None, gt=0)
    """Width inside; null: that of the features."""
    num_layers: int = Field(default=2, ge=0)
    """Residual layers, each a convolution and a linear map."""
    kernel_size: int = Field(default=5, gt=0)
    """Frames that a layer sees, the current one and those before it."""


class LinearOptions(FrameMapOptions):
    """One linear map of each frame."""

    name: Literal["linear"] = "linear"


CompressorChoice = Annotated[
    ConvOptions | LinearOptions | FocalCompressorOptions, Field(discriminator="name")
]
DecompressorChoice = Annotated[
    ConvOptions | LinearOptions | FocalDecompressorOptions, Field(discriminator="name")
]


class MappedQuantizerConfig(QuantizerConfig):
    """Base of the quantizers with a compressor before their codes and a decompressor after them."""

    loss_weights: ClassVar[dict[str, float]] = {}
    """Name of each loss → its weight in training."""

    input_dim: int = linked("encoder.output_dim")
    """Width of the features, and of the reconstructed ones."""
    compressor: CompressorChoice = ConvOptions()
    """From features to latents: `{name: conv, …}`, `{name: linear}`, or `{name: focal, …}` with
    wavslm-focalcodec-stream."""
    decompressor: DecompressorChoice = ConvOptions()
    """From codes to features: `{name: conv, …}`, `{name: linear}`, or `{name: focal, …}` with
    wavslm-focalcodec-stream."""

    @model_validator(mode="after")
    def _rates_fit(self) -> Self:
        down, up = self.compressor.factor, self.decompressor.factor
        if down != up:
            raise ValueError(
                f"the compressor merges {down} frames into one but the decompressor makes {up} of one: the "
                "products of downscale_factors and upscale_factors must be equal"
            )
        if down > 1 and self.tokens_per_frame > 1:
            raise ValueError(
                f"a frame is {self.tokens_per_frame} tokens here, so {down} frames cannot share one: use "
                "factors of 1"
            )
        return self

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        raise NotImplementedError

    @property
    def latent_dim(self) -> int:
        """Width of latents and codes."""
        raise NotImplementedError

    @property
    def tokens_per_frame(self) -> int:
        return 1

    @property
    def ids_per_place(self) -> int | None:
        """See `QuantizerFacts`."""
        return None

    @property
    def code_parts(self) -> tuple[int, ...] | None:
        """See `QuantizerFacts`."""
        return None

    def facts(self) -> QuantizerFacts:
        return QuantizerFacts(
            input_dim=self.input_dim,
            output_dim=self.input_dim,
            vocab_size=self.vocab_size,
            frames_per_token=self.compressor.factor,
            tokens_per_frame=self.tokens_per_frame,
            ids_per_place=self.ids_per_place,
            code_parts=self.code_parts,
            losses=self.loss_weights,
            chunk_frames=lcm(self.compressor.factor, self.decompressor.chunk_frames),
            causal=True,
            streams=True,
        )
