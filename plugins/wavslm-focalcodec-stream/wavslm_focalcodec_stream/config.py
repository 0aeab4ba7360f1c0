"""Config of the quantizer `focalcodec_stream`; defaults are those of the official constructors."""

from __future__ import annotations

from math import lcm, prod
from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from wavslm_core.plugin import Options, QuantizerConfig, QuantizerFacts, linked


def _check_lengths(name: str, factors: tuple[int, ...], hidden_dims: tuple[int, ...]) -> None:
    if not hidden_dims:
        raise ValueError("hidden_dims is empty: give at least one width")
    if len(factors) != len(hidden_dims):
        raise ValueError(
            f"{name} has {len(factors)} entries and hidden_dims {len(hidden_dims)}: give one factor per block"
        )


class FocalOptions(Options):
    """What the blocks of compressor and decompressor have in common."""

    hidden_dims: tuple[PositiveInt, ...] = (1024, 1024, 1024)
    """Width of each block."""
    focal_window: int = Field(default=14, gt=0)
    """Kernel of the first depthwise convolution, in frames."""
    focal_level: int = Field(default=2, gt=0)
    """Depthwise convolutions per block, before the global one."""
    focal_factor: int = Field(default=4, ge=0)
    """Frames by which the kernel grows from level to level."""
    window_size: int = Field(default=512, gt=0)
    """Kernel of the global depthwise convolution of causal blocks, in frames."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout after each modulation and each feed-forward layer."""
    use_post_norm: bool = False
    """Normalise the outputs of modulation and feed-forward instead of their inputs."""
    use_layerscale: bool = False
    """Scale each branch by a learnt vector."""
    layerscale_init: float = 1e-4
    """Initial value of that vector."""
    tanhscale_init: float = 0.5
    """Initial α of tanh(α·x), which stands for LayerNorm in causal blocks."""
    normalize_modulator: bool = False
    """Divide the sum over focal levels by their number."""


class CompressorOptions(FocalOptions):
    """Features to latents."""

    downscale_factors: tuple[PositiveInt, ...] = (1, 1, 1)
    """Frames that each block merges into one, before it."""

    @model_validator(mode="after")
    def _one_factor_per_block(self) -> Self:
        _check_lengths("downscale_factors", self.downscale_factors, self.hidden_dims)
        return self

    @property
    def factor(self) -> int:
        """Frames that become one latent."""
        return prod(self.downscale_factors)


class DecompressorOptions(FocalOptions):
    """Codes to features."""

    upscale_factors: tuple[PositiveInt, ...] = (1, 1, 1)
    """Frames that each block makes of one, after it."""
    last_window_size: int = Field(default=512, gt=0)
    """`window_size` of the last block."""
    lookahead_size: int = Field(default=3, ge=0)
    """Frames that the refiner of a causal decompressor sees ahead at most; 0: no refiner."""

    @model_validator(mode="after")
    def _one_factor_per_block(self) -> Self:
        _check_lengths("upscale_factors", self.upscale_factors, self.hidden_dims)
        return self

    @property
    def factor(self) -> int:
        """Frames that are made of one code."""
        return prod(self.upscale_factors)

    @property
    def chunk_frames(self) -> int:
        """Frames that a causal decompressor makes together."""
        return lcm(self.factor, self.lookahead_size + 1)


class FocalCodecStreamConfig(QuantizerConfig):
    """Focal compressor, binary spherical codes and focal decompressor (FocalCodec and FocalCodec-Stream)."""

    name: Literal["focalcodec_stream"] = "focalcodec_stream"
    input_dim: int = linked("encoder.output_dim")
    """Width of the features."""
    output_dim: int | None = Field(default=None, gt=0)
    """Width of the reconstructed features; None: `input_dim`."""
    codebook_size: int = Field(default=4096, ge=2)
    """Number of codes, a power of two: its logarithm is the width of the latents."""
    causal: bool = True
    """Causal blocks, which stream; otherwise blocks that see the whole utterance."""
    compressor: CompressorOptions = Field(default_factory=CompressorOptions)
    """Blocks from features to latents."""
    decompressor: DecompressorOptions = Field(default_factory=DecompressorOptions)
    """Blocks from codes to features."""
    entropy_inverse_temperature: float = Field(default=100.0, gt=0)
    """How sharply latents are assigned to codes in the entropy loss."""
    entropy_group_bits: int = Field(default=16, ge=1, le=16)
    """Bits whose joint usage the entropy loss counts; groups are taken as independent. 16 is exact up
    to 65536 codes, where 8 is ten times as fast; 1: every bit by itself."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.codebook_size & (self.codebook_size - 1):
            below = 1 << (self.codebook_size.bit_length() - 1)
            raise ValueError(
                f"codebook_size {self.codebook_size} is not a power of two: use {below} or {2 * below}"
            )
        down, up = self.compressor.factor, self.decompressor.factor
        if down != up:
            raise ValueError(
                f"compressor.downscale_factors merge {down} frames into one but decompressor.upscale_factors "
                f"make {up} of one: both products must be equal"
            )
        return self

    @property
    def code_bits(self) -> int:
        """Width of latents and codes."""
        return self.codebook_size.bit_length() - 1

    def facts(self) -> QuantizerFacts:
        frames_per_token = self.compressor.factor
        return QuantizerFacts(
            input_dim=self.input_dim,
            output_dim=self.output_dim or self.input_dim,
            vocab_size=self.codebook_size,
            frames_per_token=frames_per_token,
            code_parts=(2,) * self.code_bits,
            losses={"entropy": 0.1, "commitment": 0.0},
            chunk_frames=self.decompressor.chunk_frames if self.causal else frames_per_token,
            causal=self.causal,
            streams=self.causal,
        )
