"""Options of the quantizers without a table of codes: `fsq`, `lfq` and `bsq`."""

from math import prod
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from wavslm_vector_quantize.config import MappedQuantizerConfig

MOST_CODES = 1 << 20


class FsqConfig(MappedQuantizerConfig):
    """Finite scalar quantisation: each of a few numbers is rounded to one of a few levels (2309.15505)."""

    name: Literal["fsq"] = "fsq"
    levels: tuple[int, ...] = Field(default=(8, 8, 8, 8), min_length=1)
    """Values that each number can take, 3 or more; their product is the number of codes."""

    @field_validator("levels")
    @classmethod
    def _in_range(cls, levels: tuple[int, ...]) -> tuple[int, ...]:
        if min(levels) < 3:
            raise ValueError(f"levels must be 3 or more, not {min(levels)}; for bits use lfq or bsq")
        if prod(levels) > MOST_CODES:
            raise ValueError(f"{list(levels)} make {prod(levels)} codes: use {MOST_CODES} or fewer")
        return levels

    @property
    def vocab_size(self) -> int:
        return prod(self.levels)

    @property
    def latent_dim(self) -> int:
        return len(self.levels)

    @property
    def code_parts(self) -> tuple[int, ...]:
        # The library counts the first number in ones.
        return self.levels[::-1]


class BinaryConfig(MappedQuantizerConfig):
    """Base of the quantizers whose tokens are the signs of the latents, read as a binary number."""

    codebook_size: int = Field(default=4096, ge=2, le=MOST_CODES)
    """Number of codes, a power of two: its logarithm is the width of the latents."""

    @field_validator("codebook_size")
    @classmethod
    def _power_of_two(cls, size: int) -> int:
        if size & (size - 1):
            below = 1 << (size.bit_length() - 1)
            raise ValueError(f"codebook_size {size} is not a power of two: use {below} or {2 * below}")
        return size

    @property
    def vocab_size(self) -> int:
        return self.codebook_size

    @property
    def latent_dim(self) -> int:
        return self.codebook_size.bit_length() - 1

    @property
    def code_parts(self) -> tuple[int, ...]:
        return (2,) * self.latent_dim


class LfqConfig(BinaryConfig):
    """Lookup-free quantisation: the signs of unbounded latents (MAGVIT-v2, 2310.05737)."""

    loss_weights: ClassVar[dict[str, float]] = {"entropy": 0.1, "commitment": 0.25}

    name: Literal["lfq"] = "lfq"
    entropy_inverse_temperature: float = Field(default=0.5, gt=0)
    """How sharply latents are assigned to codes of ±1 in the entropy loss."""


class BsqConfig(BinaryConfig):
    """Binary spherical quantisation: the signs of latents on the unit sphere (2406.07548)."""

    loss_weights: ClassVar[dict[str, float]] = {"entropy": 0.1, "commitment": 0.0}

    name: Literal["bsq"] = "bsq"
    entropy_inverse_temperature: float = Field(default=5.0, gt=0)
    """How sharply latents are assigned to codes of norm one in the entropy loss."""
