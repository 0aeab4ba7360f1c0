"""What the backbone can be told. The defaults make a model for minutes on a CPU, not for hours on GPUs."""

from typing import Literal, Self

from pydantic import Field, model_validator

from wavslm_core.plugin import BackboneConfig, BackboneFacts, linked

FFN_MULTIPLE = 32
"""The default width of the feed-forward parts is rounded up to a multiple of this."""


class XTransformerConfig(BackboneConfig):
    """Transformer with rotary positions, RMSNorm, SwiGLU and grouped queries, over a sliding window."""

    name: Literal["x_transformer"] = "x_transformer"

    num_layers: int = Field(default=4, gt=0)
    """Transformer layers."""
    dim: int = Field(default=192, gt=0)
    """Width of the hidden states."""
    num_heads: int = Field(default=6, gt=0)
    """Attention heads; divides `dim`."""
    kv_heads: int = Field(default=2, gt=0)
    """Heads of keys and values, each shared by num_heads / kv_heads heads of queries."""
    ffn_dim: int | None = Field(default=None, gt=0)
    """Inner width of the feed-forward parts; empty: 8/3 of `dim`, which has the weights of a plain 4."""
    window_tokens: int = Field(default=128, gt=0)
    """Tokens that an attention sees, its own chunk included."""
    chunk_tokens: int = linked("head.chunk_tokens", must_agree=False)
    """Tokens that see each other; the head's chunk is a multiple of it, and left out the same. 1 is ordinary
    causality."""
    rotary_base: float = Field(default=10000.0, gt=1)
    """The slowest rotary pair turns once in about 2π times this many tokens."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropped fraction of what attention and feed-forward parts add, in training only."""
    input: Literal["features", "embedding"] = "features"
    """`features`: read the quantizer's features; `embedding`: read tokens through a table of its own."""
    input_dim: int = linked("quantizer.output_dim")
    """Width of the features that are read; another width than `dim` adds a projection."""
    vocab_size: int = linked("quantizer.vocab_size")
    """Rows of the embedding table when `input` is `embedding`."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.dim % self.num_heads or self.head_dim % 2:
            raise ValueError(
                f"dim {self.dim} must be an even multiple of num_heads {self.num_heads}: "
                "rotary positions turn pairs of numbers inside a head"
            )
        if self.num_heads % self.kv_heads:
            raise ValueError(f"kv_heads {self.kv_heads} must divide num_heads {self.num_heads}")
        if self.window_tokens < self.chunk_tokens:
            raise ValueError(
                f"window_tokens {self.window_tokens} is below chunk_tokens {self.chunk_tokens}: "
                "a chunk has to fit into the window"
            )
        return self

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.dim // self.num_heads

    @property
    def inner_dim(self) -> int:
        """Inner width of the feed-forward parts."""
        return self.ffn_dim or -(-8 * self.dim // (3 * FFN_MULTIPLE)) * FFN_MULTIPLE

    def facts(self) -> BackboneFacts:
        return BackboneFacts(
            input=self.input,
            input_dim=self.input_dim if self.input == "features" else self.dim,
            output_dim=self.dim,
            chunk_tokens=self.chunk_tokens,
            window_tokens=self.window_tokens,
        )
