"""Heads on a source whose entropy is known: a second-order Markov chain over 32 codes with a lasting mood.

A sequence's mood (one of two) shifts all its logits, so that the far past matters a little. Given the mood,
both the entropy of the source and the best that a head can do which draws the tokens of a chunk independently
are sums over the chain's 32² states; not to know the mood only adds to either.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wavslm_core.parts.interfaces import Head
from wavslm_heads.chunk_autoregressive import ChunkAutoregressiveHead
from wavslm_heads.config import ChunkAutoregressiveConfig
from wavslm_next_chunk.config import NextChunkConfig
from wavslm_next_chunk.head import NextChunkHead

pytestmark = pytest.mark.slow

CODES, MOODS, DIM = 32, 2, 48
SIZES: dict[str, Any] = {"input_dim": DIM, "vocab_size": CODES, "chunk_tokens": 4}
INNER: dict[str, Any] = {**SIZES, "dim": 64}
STEPS = 110


@dataclass(eq=False)
class Source:
    """p(x | mood, the token before the last, the last), (M,V,V,V)."""

    table: Tensor

    @classmethod
    def random(cls, seed: int = 0) -> Source:
        generator = torch.Generator().manual_seed(seed)
        by_last = 1.6 * torch.randn(1, 1, CODES, CODES, generator=generator)
        by_earlier = 1.2 * torch.randn(1, CODES, 1, CODES, generator=generator)
        by_mood = 0.7 * torch.randn(MOODS, 1, 1, CODES, generator=generator)
        return cls((by_last + by_earlier + by_mood).softmax(-1))

    @cache  # noqa: B019  (all heads learn from the same sequences)
    def draw(self, rows: int, size: int, seed: int) -> Tensor:
        """Return sequences (rows, size)."""
        generator = torch.Generator().manual_seed(seed)
        mood = torch.randint(0, MOODS, (rows,), generator=generator)
        tokens = torch.randint(0, CODES, (rows, size + 16), generator=generator)
        for place in range(2, size + 16):
            chances = self.table[mood, tokens[:, place - 2], tokens[:, place - 1]]
            tokens[:, place] = torch.multinomial(chances, 1, generator=generator)[:, 0]
        return tokens[:, 16:]

    def independent_bits(self, chunk: int) -> list[float]:
        """Return the bits of each token of a chunk given mood and past, but not those before it in the chunk.

        The first is the source's entropy rate.
        """
        bits = [0.0] * chunk
        for table in self.table:
            pairs = torch.full((CODES, CODES), CODES**-2.0)
            for _ in range(60):
                pairs = torch.einsum("ab,abx->bx", pairs, table)
            future = table
            for place in range(chunk):
                entropies = -(future * future.log2()).sum(-1)
                bits[place] += (pairs * entropies).sum().item() / MOODS
                # p(x_{k+1} | a, b) = Σ_x p(x | a, b) p(x_{k+1} | b, x)
                future = torch.einsum("abx,bxy->aby", table, future)
        return bits


@pytest.fixture(scope="module")
def source() -> Source:
    return Source.random()


class Model(nn.Module):
    """A recurrent backbone and a head."""

    def __init__(self, head: Head[Any]) -> None:
        super().__init__()
        self.table = nn.Embedding(CODES, DIM)
        self.backbone = nn.GRU(DIM, DIM, batch_first=True)
        self.head = head

    def bits(self, tokens_BT: Tensor) -> Tensor:
        """Return the mean bits of what is predicted."""
        hidden_BTD = self.backbone(self.table(tokens_BT))[0]
        return -self.head.log_probs(hidden_BTD, tokens_BT)[:, 4:].mean() / math.log(2)


def trained_bits(head: Head[Any], source: Source) -> float:
    """Train on fresh sequences, and return the bits of unseen ones."""
    model = Model(head)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=STEPS)
    train = source.draw(32 * STEPS, 64, seed=1).view(STEPS, 32, 64)
    for tokens_BT in train:
        loss = model.bits(tokens_BT)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return model.eval().bits(source.draw(256, 64, seed=2)).item()


def test_the_floors_are_what_sequences_cost(source: Source) -> None:
    """The entropy rate against the mean surprise of drawn sequences."""
    floors = source.independent_bits(4)
    assert floors == sorted(floors)
    tokens = source.draw(2000, 32, seed=3)
    per_mood = source.table[:, tokens[:, :-2], tokens[:, 1:-1], tokens[:, 2:]].log2().sum(-1)
    both = torch.logsumexp(per_mood * math.log(2), dim=0) / math.log(2) - math.log2(MOODS)
    # To find out the mood costs one bit a sequence at most.
    assert floors[0] - 0.02 < -both.mean().item() / 30 < floors[0] + 1 / 30 + 0.02


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({}, 1.05),
        ({"inner": "transformer", "output": "linear"}, 1.05),
        # These codes' bits mean nothing by themselves: the worst case for outputs over bits.
        ({"output": "bits"}, 1.12),
    ],
    ids=["gru", "transformer", "bits"],
)
def test_chunk_autoregressive_comes_near_the_entropy(
    source: Source, options: dict[str, Any], most: float
) -> None:
    torch.manual_seed(0)
    entropy = source.independent_bits(1)[0]
    head = ChunkAutoregressiveHead(ChunkAutoregressiveConfig(**INNER, **options))
    ratio = trained_bits(head, source) / entropy
    assert 1 - 0.01 < ratio < most


def test_the_next_chunk_head_cannot(source: Source) -> None:
    torch.manual_seed(0)
    floors = source.independent_bits(4)
    floor = sum(floors) / 4
    assert floor > 1.3 * floors[0]
    bits = trained_bits(NextChunkHead(NextChunkConfig(**SIZES)), source)
    assert floor - 0.02 < bits < math.log2(CODES)
