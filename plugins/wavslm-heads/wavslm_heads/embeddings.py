"""Codes read through their parts: bits or digits."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def bit_count(vocab_size: int) -> int:
    """Return how many bits a code of that many has; `vocab_size` is a power of two."""
    return vocab_size.bit_length() - 1


def code_bits(tokens: Tensor, count: int) -> Tensor:
    """Return the bits (…, count) int64 of tokens (…), 0 or 1, the most significant first."""
    shifts_K = torch.arange(count - 1, -1, -1, device=tokens.device)
    return (tokens[..., None] >> shifts_K) & 1


class BitEmbedding(nn.Module):
    """Reads codes through their bits, so that codes seldom heard share what is known of others."""

    def __init__(self, vocab_size: int, dim: int, *, hidden_dim: int = 128) -> None:
        super().__init__()
        self.bits = bit_count(vocab_size)
        self.first_KH = nn.Parameter(torch.empty(self.bits, hidden_dim))
        self.bias_H = nn.Parameter(torch.zeros(hidden_dim))
        self.second = nn.Linear(hidden_dim, dim)
        nn.init.normal_(self.first_KH, std=self.bits**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (…) to (…,dim)."""
        signs = (2 * code_bits(tokens, self.bits) - 1).to(self.first_KH.dtype)
        return self.second(F.gelu(signs @ self.first_KH + self.bias_H))


class DigitEmbedding(nn.Module):
    """Reads codes through their digits, so that codes seldom heard share what is known of others.

    As `BitEmbedding` does with bits: each digit's value has a vector, and a small network reads their sum.
    """

    weights_K: Tensor
    sizes_K: Tensor
    starts_K: Tensor

    def __init__(self, digits: Sequence[int], dim: int, *, hidden_dim: int = 128) -> None:
        """`digits`: how many values each has, the most significant first."""
        super().__init__()
        weights = [prod(digits[place + 1 :]) for place in range(len(digits))]
        starts = [sum(digits[:place]) for place in range(len(digits))]
        for name, values in {"weights_K": weights, "sizes_K": digits, "starts_K": starts}.items():
            self.register_buffer(name, torch.tensor(values), persistent=False)
        self.first_NH = nn.Parameter(torch.empty(sum(digits), hidden_dim))
        self.bias_H = nn.Parameter(torch.zeros(hidden_dim))
        self.second = nn.Linear(hidden_dim, dim)
        nn.init.normal_(self.first_NH, std=len(digits) ** -0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (…) to (…,dim)."""
        rows = tokens[..., None] // self.weights_K % self.sizes_K + self.starts_K
        return self.second(F.gelu(F.embedding(rows, self.first_NH).sum(dim=-2) + self.bias_H))
