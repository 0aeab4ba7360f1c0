"""From a vector to the distribution of one token: over all codes at once, or over a code's bits in order."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.plugin import Draw, PackLinear


class Output(nn.Module, ABC):
    """The distribution of a token given a vector of width E."""

    @abstractmethod
    def log_probs(self, states_NE: Tensor, tokens_N: Tensor) -> Tensor:
        """Return log p(token | vector) in nats, (N,) float32."""

    @abstractmethod
    def draw(self, states_BKE: Tensor, draw: Draw) -> Tensor:
        """Draw tokens (B,K), independently of each other given their vectors."""


class CodeOutput(Output):
    """One logit a code."""

    @abstractmethod
    def logits(self, states: Tensor) -> Tensor:
        """Map (…,E) to (…,V)."""

    def log_probs(self, states_NE: Tensor, tokens_N: Tensor) -> Tensor:
        return -F.cross_entropy(self.logits(states_NE).float(), tokens_N, reduction="none")

    def draw(self, states_BKE: Tensor, draw: Draw) -> Tensor:
        return draw.tokens(self.logits(states_BKE))


class LinearOutput(CodeOutput):
    """Logits from a matrix (V,E) and a bias."""

    def __init__(self, input_dim: int, vocab_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_dim, vocab_size)
        nn.init.zeros_(self.linear.bias)

    def logits(self, states: Tensor) -> Tensor:
        return self.linear(states)


class TiedOutput(CodeOutput):
    """Logits from an embedding table (V,E') and a bias: a code is likely when the vector points its way."""

    def __init__(self, input_dim: int, table: nn.Embedding) -> None:
        super().__init__()
        self.project = nn.Linear(input_dim, table.embedding_dim)
        self.bias = nn.Parameter(torch.zeros(table.num_embeddings))
        # In a tuple: the table belongs to the head, which must not save it twice.
        self._table = (table,)
        self.packed: nn.Module | None = None

    def pack_weights(self, pack: PackLinear) -> None:
        """Make a copy of the table for fast inference."""
        self.packed = pack(self._table[0].weight, self.bias)

    def logits(self, states: Tensor) -> Tensor:
        projected = self.project(states)
        if self.packed is not None:
            return self.packed(projected)
        return F.linear(projected, self._table[0].weight, self.bias)
