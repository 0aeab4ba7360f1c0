"""Options of the heads."""

from math import prod
from typing import Literal, Self

from pydantic import Field, model_validator

from wavslm_core.plugin import HeadConfig, HeadFacts, linked


class NextTokenConfig(HeadConfig):
    """A linear head: the hidden state at position t predicts token t + 1."""

    name: Literal["next_token"] = "next_token"
    input_dim: int = linked("backbone.output_dim")
    """Width of the hidden states."""
    vocab_size: int = linked("quantizer.vocab_size")
    """Number of codes."""

    def facts(self) -> HeadFacts:
        return HeadFacts(input_dim=self.input_dim, vocab_size=self.vocab_size, chunk_tokens=1)


class ChunkAutoregressiveConfig(HeadConfig):
    """A small causal network over the tokens inside a chunk, given the hidden states of the chunk before."""

    name: Literal["chunk_autoregressive"] = "chunk_autoregressive"
    input_dim: int = linked("backbone.output_dim")
    """Width of the hidden states."""
    vocab_size: int = linked("quantizer.vocab_size")
    """Number of codes."""
    chunk_tokens: int = Field(default=4, gt=0)
    """Tokens for each step of the backbone, drawn one after the other."""
    inner: Literal["gru", "transformer"] = "gru"
    """The network over the tokens inside a chunk."""
    dim: int = Field(default=256, gt=0)
    """Its width."""
    layers: int = Field(default=1, gt=0)
    """Its layers."""
    num_heads: int = Field(default=4, gt=0)
    """Attention heads of the transformer."""
    digits: tuple[int, ...] = linked("quantizer.digits", open_value=())
    """How many values each digit of a token's id has, the most significant first; what `auto` goes by."""
    embedding: Literal["auto", "table", "bits", "digits"] = "auto"
    """How tokens are read: one learned vector a code, or a small network over the code's bits or digits.
    `auto`: bits, or digits, where ids are made of such, else a table."""
    embedding_dim: int | None = Field(default=None, gt=0)
    """Width in which tokens are read; the rank of the direct path from a token to the next one's logits.
    null: 128 for a table, else 64."""
    context_tokens: int = Field(default=2, gt=0)
    """Tokens just before the predicted one that are given directly, reaching into the chunk before; at most
    `chunk_tokens` are used."""
    output: Literal["auto", "tied", "linear", "bits"] = "auto"
    """Logits over all codes, from the embedding table or a matrix of their own, or over bits in order.
    `auto`: tied to a table if there is one, else linear."""
    bit_dim: int = Field(default=128, gt=0)
    """Hidden units for each bit, with `output: bits`."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """On the embedded tokens and on what the logits are made from."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.inner == "transformer" and self.dim % self.num_heads:
            raise ValueError(f"dim {self.dim} is no multiple of num_heads {self.num_heads}")
        if self.output == "tied" and self.reads != "table":
            raise ValueError(
                "output 'tied' needs embedding 'table', which it shares; or use output 'bits' or 'linear'"
            )
        if "bits" in (self.reads, self.predicts):
            check_power_of_two(self.vocab_size)
        if self.reads == "digits" and self.vocab_size and prod(self.digits) != self.vocab_size:
            raise ValueError(
                f"digits {list(self.digits)} make {prod(self.digits)} ids, but vocab_size is "
                f"{self.vocab_size}. Leave both out to take them from the quantizer"
            )
        return self

    @property
    def reads(self) -> Literal["table", "bits", "digits"]:
        """The embedding that is used."""
        if self.embedding != "auto":
            return self.embedding
        if self.output == "tied" or len(self.digits) < 2:
            return "table"
        return "bits" if set(self.digits) == {2} else "digits"

    @property
    def predicts(self) -> Literal["tied", "linear", "bits"]:
        """The output that is used."""
        if self.output != "auto":
            return self.output
        return "tied" if self.reads == "table" else "linear"

    @property
    def reading_dim(self) -> int:
        """The width in which tokens are read."""
        return self.embedding_dim or (128 if self.reads == "table" else 64)

    def facts(self) -> HeadFacts:
        return HeadFacts(
            input_dim=self.input_dim,
            vocab_size=self.vocab_size,
            chunk_tokens=self.chunk_tokens,
            draws="symbols" if self.predicts == "bits" else "tokens",
        )


class BitwiseConfig(HeadConfig):
    """Predicts the bits of codes in order, the most significant first; chunks as in `next_chunk`."""

    name: Literal["bitwise"] = "bitwise"
    input_dim: int = linked("backbone.output_dim")
    """Width of the hidden states."""
    vocab_size: int = linked("quantizer.vocab_size")
    """Number of codes: a power of two."""
    chunk_tokens: int = Field(default=4, gt=0)
    """Tokens predicted at once, independently of each other given what came before."""
    bit_dim: int = Field(default=128, gt=0)
    """Hidden units for each bit."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_power_of_two(self.vocab_size)
        return self

    def facts(self) -> HeadFacts:
        return HeadFacts(
            input_dim=self.input_dim,
            vocab_size=self.vocab_size,
            chunk_tokens=self.chunk_tokens,
            draws="symbols",
        )


def check_power_of_two(vocab_size: int) -> None:
    """Raises: ValueError when some bits do not make just that many codes; 0 stands for "not known yet"."""
    if vocab_size and (vocab_size < 2 or vocab_size & (vocab_size - 1)):
        near = 1 << max(1, vocab_size.bit_length())
        raise ValueError(
            f"vocab_size is {vocab_size}, but bits need a power of two, such as {near}. Use a quantizer with "
            "that many codes, or a head that predicts whole codes"
        )
