"""How well a codec uses its codes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CURVE_POINTS = 200


@dataclass(frozen=True)
class CodebookUse:
    """Counted over a split's tokens."""

    vocab_size: int
    tokens: int
    used: int
    """Codes that occur at least once."""
    used_fraction: float
    entropy_bits: float
    """Of the code frequencies; at most log2(vocab_size)."""
    perplexity: float
    """2^entropy: how many equally frequent codes would carry as much."""
    top: list[tuple[int, float]]
    """The ten most frequent codes with their shares."""
    rank_curve: list[tuple[int, float]]
    """(rank from 1, share) of codes sorted by frequency, thinned out logarithmically for drawing."""

    @property
    def scores(self) -> dict[str, float]:
        """What a validation says of it."""
        return {
            "codes_used": float(self.used),
            "codebook_usage": self.used_fraction,
            "code_entropy_bits": self.entropy_bits,
        }

    @property
    def collapse(self) -> str | None:
        """How few codes carry how little, in words, when it is less than half of what could be; else None."""
        possible_bits = math.log2(min(self.vocab_size, self.tokens))
        if self.entropy_bits >= possible_bits / 2:
            return None
        return (
            f"{self.used} of {self.vocab_size} codes occur in {self.tokens} tokens, with an entropy of "
            f"{self.entropy_bits:.2f} of {possible_bits:.2f} bits"
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def count_codes(utterances: Iterable[NDArray[np.int64]], *, vocab_size: int) -> NDArray[np.int64]:
    """Return how often each code occurs (V,). Raises: ValueError for a token outside the codebook."""
    counts_V = np.zeros(vocab_size, dtype=np.int64)
    for tokens_T in utterances:
        if tokens_T.size and (tokens_T.min() < 0 or tokens_T.max() >= vocab_size):
            raise ValueError(f"tokens must lie in 0…{vocab_size - 1}")
        counts_V += np.bincount(tokens_T, minlength=vocab_size)
    return counts_V


def codebook_use(counts_V: NDArray[np.int64]) -> CodebookUse:
    """Describe code counts (V,). Raises: ValueError when nothing was counted."""
    vocab_size, tokens = counts_V.size, int(counts_V.sum())
    if tokens == 0:
        raise ValueError("no token was counted; the split holds no audio that is long enough")
    shares_V = counts_V / tokens
    positive = shares_V[shares_V > 0]
    entropy_bits = float(-(positive * np.log2(positive)).sum())
    order_V = np.argsort(-counts_V, kind="stable")
    ranks = np.unique(np.geomspace(1, vocab_size, _CURVE_POINTS).round().astype(int))
    return CodebookUse(
        vocab_size=vocab_size,
        tokens=tokens,
        used=int(positive.size),
        used_fraction=positive.size / vocab_size,
        entropy_bits=max(0.0, entropy_bits),
        perplexity=float(2**entropy_bits),
        top=[(int(code), float(shares_V[code])) for code in order_V[: min(10, positive.size)]],
        rank_curve=[(int(rank), float(shares_V[order_V[rank - 1]])) for rank in ranks],
    )
