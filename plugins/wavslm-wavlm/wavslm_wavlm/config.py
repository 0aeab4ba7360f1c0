"""What WavLM as an encoder and as a backbone can be told; names and defaults as in the official release."""

from __future__ import annotations

from math import prod
from typing import Literal, Self

from pydantic import Field, model_validator

from wavslm_core.plugin import (
    ArgumentError,
    BackboneConfig,
    BackboneFacts,
    EncoderConfig,
    EncoderFacts,
    linked,
)

SAMPLE_RATE_HZ = 16000


class WavLMConfig(EncoderConfig):
    """WavLM: convolutional front end and transformer layers with a gated relative position bias."""

    name: Literal["wavlm"] = "wavlm"

    hidden_dims: tuple[int, ...] = (512,) * 7
    """Channels of each convolution of the front end."""
    kernel_sizes: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    """Kernel size of each convolution."""
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    """Stride of each convolution; their product is the number of samples per frame."""
    num_layers: int = Field(default=6, ge=0)
    """Transformer layers."""
    dim: int = Field(default=1024, gt=0)
    """Width of the features."""
    ffn_dim: int = Field(default=4096, gt=0)
    """Inner width of the feed-forward parts."""
    num_heads: int = Field(default=16, gt=0)
    """Attention heads; divides `dim`."""
    num_buckets: int = Field(default=320, ge=4)
    """Buckets of the relative position bias, half of them for each direction."""
    max_distance: int = Field(default=800, gt=0)
    """Distance in frames from which on all positions share the last bucket."""
    conv_pos: int = Field(default=128, gt=0)
    """Kernel size of the positional convolution."""
    conv_pos_groups: int = Field(default=16, gt=0)
    """Groups of the positional convolution."""
    causal: bool = False
    """No frame sees beyond the end of its chunk, so the encoder can stream; false: full context."""
    window_size: int = Field(default=512, gt=0)
    """Frames that a causal attention sees, its own chunk included."""
    lookahead_size: int = Field(default=3, ge=0)
    """Frames after the first of a chunk that it sees when causal: a chunk is this plus one."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropped fraction of what attention and feed-forward parts add, in training only."""

    layer_norm_first: bool = True
    """Norm before attention and feed-forward (WavLM-large); false: after them (WavLM-base)."""
    final_norm: bool = False
    """With `layer_norm_first`, a last norm after the top layer, as in the complete WavLM-large."""
    front_end_norm: Literal["layer", "group"] = "layer"
    """`layer`: over channels after every convolution (large); `group`: over time after the first (base)."""
    front_end_padding: Literal["kernel", "stride"] = "kernel"
    """When causal, how much stands before the first input of a convolution. `kernel`: its kernel less one, so
    that a frame hears up to the first sample of its hop, as in the official release. `stride`: its kernel
    less its stride, so that a frame hears all of its hop, which is nearer to what full context hears."""
    front_end_init: Literal["random", "filterbank"] = "random"
    """`filterbank` lets the first convolution start as a bank of band-pass filters, for training from nothing
    in minutes: give it a long kernel (25 ms or more) and 256 or more channels."""
    conv_bias: bool = False
    """Give the convolutions of the front end a bias."""
    normalize_waveform: bool = False
    """Bring each waveform to zero mean and unit variance first; WavLM-large was trained so."""
    output_layer: int | None = Field(default=None, ge=0)
    """Layer whose hidden states are the features; 0 is the input of the first, empty is the last."""
    checkpoint: str | None = None
    """Initial weights: a folder, `.pt` file or hub id of a WavLM, such as microsoft/wavlm-large;
    or of what a stage left as `encoder`."""

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
        _check_heads(self.dim, self.num_heads)
        _check_buckets(self.num_buckets, self.max_distance)
        if self.dim % self.conv_pos_groups:
            raise ValueError(f"conv_pos_groups {self.conv_pos_groups} must divide dim {self.dim}")
        if self.output_layer is not None and self.output_layer > self.num_layers:
            raise ValueError(f"output_layer {self.output_layer} is above num_layers {self.num_layers}")
        if self.causal:
            _check_window(self.window_size, self.lookahead_size)
            if self.front_end_norm == "group" or self.normalize_waveform:
                raise ValueError(
                    "a causal encoder cannot use front_end_norm 'group' or normalize_waveform: "
                    "both need the whole waveform"
                )
        if self.front_end_padding == "stride" and any(
            kernel < stride for kernel, stride in zip(self.kernel_sizes, self.strides, strict=True)
        ):
            raise ValueError(
                "front_end_padding 'stride' needs kernels that are no shorter than their strides"
            )
        return self

    @property
    def has_norm(self) -> bool:
        """Whether there is a norm beside the layers: after the top one, or before the lowest."""
        return self.final_norm or not self.layer_norm_first

    @property
    def hop_samples(self) -> int:
        """Samples per frame."""
        return prod(self.strides)

    @property
    def receptive_samples(self) -> int:
        """Samples that the front end computes a frame from."""
        reaches = (
            (kernel - 1) * prod(self.strides[:place]) for place, kernel in enumerate(self.kernel_sizes)
        )
        return 1 + sum(reaches)

    @property
    def chunk_frames(self) -> int:
        """Frames that see each other when causal; 1 in a full-context encoder."""
        return self.lookahead_size + 1 if self.causal else 1

    def facts(self) -> EncoderFacts:
        return EncoderFacts(
            sample_rate_hz=SAMPLE_RATE_HZ,
            hop_samples=self.hop_samples,
            output_dim=self.dim,
            layers=self.num_layers if self.output_layer is None else self.output_layer,
            chunk_frames=self.chunk_frames,
            window_frames=self.window_size if self.causal else None,
            causal=self.causal,
            streams=self.causal,
        )


class WavLMUpperConfig(BackboneConfig):
    """WavLM's upper layers as a causal language model over features or tokens."""

    name: Literal["wavlm_upper"] = "wavlm_upper"

    num_layers: int = Field(default=18, gt=0)
    """Transformer layers."""
    dim: int = Field(default=1024, gt=0)
    """Width of the hidden states."""
    ffn_dim: int = Field(default=4096, gt=0)
    """Inner width of the feed-forward parts."""
    num_heads: int = Field(default=16, gt=0)
    """Attention heads; divides `dim`."""
    num_buckets: int = Field(default=320, ge=4)
    """Buckets of the relative position bias, half of them for each direction."""
    max_distance: int = Field(default=800, gt=0)
    """Distance in tokens from which on all positions share the last bucket."""
    window_size: int = Field(default=512, gt=0)
    """Tokens that an attention sees, its own chunk included."""
    lookahead_size: int | None = linked("head.lookahead_tokens", open_value=None, must_agree=False, ge=0)
    """Tokens after the first of a chunk that it sees: a chunk is this plus one. The head's is a multiple of
    it; left out, they are the same."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropped fraction of what attention and feed-forward parts add, in training only."""
    input: Literal["features", "embedding"] = "features"
    """`features`: read the quantizer's features; `embedding`: read tokens through a table of its own."""
    input_dim: int = linked("quantizer.output_dim")
    """Width of the features that are read; another width than `dim` adds a projection."""
    vocab_size: int = linked("quantizer.vocab_size")
    """Rows of the embedding table when `input` is `embedding`."""
    checkpoint: str | None = None
    """Initial weights: a folder, `.pt` file or hub id of a WavLM, such as microsoft/wavlm-large;
    or of what a stage left as `encoder`."""
    first_layer: int = Field(default=7, ge=1)
    """Layer of the checkpoint, counted from 1, that initialises the first layer here."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _check_heads(self.dim, self.num_heads)
        _check_buckets(self.num_buckets, self.max_distance)
        _check_window(self.window_size, self.lookahead_size or 0)
        return self

    @property
    def chunk_tokens(self) -> int:
        """Tokens that see each other. Raises: ArgumentError as long as nobody has said how many."""
        if self.lookahead_size is None:
            raise ArgumentError("lookahead_size is not given; a recipe takes it from the head. Give a number")
        return self.lookahead_size + 1

    def facts(self) -> BackboneFacts:
        return BackboneFacts(
            input=self.input,
            input_dim=self.input_dim if self.input == "features" else self.dim,
            output_dim=self.dim,
            chunk_tokens=self.chunk_tokens,
            window_tokens=self.window_size,
        )


def _check_heads(dim: int, num_heads: int) -> None:
    if dim % num_heads:
        raise ValueError(f"num_heads {num_heads} must divide dim {dim}")


def _check_buckets(num_buckets: int, max_distance: int) -> None:
    if num_buckets % 2 or max_distance <= num_buckets // 4:
        raise ValueError(
            "num_buckets must be even and max_distance above a quarter of it, "
            f"got {num_buckets} and {max_distance}"
        )


def _check_window(window_size: int, lookahead_size: int) -> None:
    if window_size <= lookahead_size:
        raise ValueError(
            f"window_size {window_size} must be above lookahead_size {lookahead_size}: "
            "a chunk has to fit into the window"
        )
