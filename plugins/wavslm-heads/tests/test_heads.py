"""What holds for every head here, whatever it is made of, beside the contract."""

from typing import Any

import pytest
import torch
from torch import Tensor

from wavslm_core.model.sampling import TokenDraw
from wavslm_core.parts.configs import HeadConfig
from wavslm_core.parts.interfaces import Head, SamplingContext
from wavslm_core.parts.packing import packed_copy
from wavslm_core.parts.plugins import load_registry
from wavslm_heads.config import BitwiseConfig, ChunkAutoregressiveConfig, NextTokenConfig
from wavslm_samplers.config import TopPConfig
from wavslm_samplers.truncating import TopPSampler

D, V, C = 12, 8, 2
SIZES: dict[str, Any] = {"input_dim": D, "vocab_size": V}
INNER: dict[str, Any] = {**SIZES, "chunk_tokens": C, "dim": 16, "embedding_dim": 6, "bit_dim": 10}

CONFIGS: dict[str, HeadConfig] = {
    "next_token": NextTokenConfig(**SIZES),
    "gru": ChunkAutoregressiveConfig(**INNER, output="linear"),
    "two_gru_layers": ChunkAutoregressiveConfig(**INNER, layers=2, context_tokens=1, output="linear"),
    "transformer": ChunkAutoregressiveConfig(**INNER, inner="transformer", layers=2, num_heads=2),
    "tied": ChunkAutoregressiveConfig(**INNER, output="tied"),
    "bits_inside": ChunkAutoregressiveConfig(**INNER, output="bits", embedding="bits"),
    "single": ChunkAutoregressiveConfig(**{**INNER, "chunk_tokens": 1}),
    "long": ChunkAutoregressiveConfig(**{**INNER, "chunk_tokens": 5}, context_tokens=3),
    "bitwise": BitwiseConfig(**SIZES, chunk_tokens=C, bit_dim=10),
}


class RecordingSampler(TopPSampler):
    """Samples from everything and keeps the logits."""

    def __init__(self) -> None:
        super().__init__(TopPConfig(p=1.0))
        self.seen: list[Tensor] = []

    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        self.seen.append(logits_NV)
        return logits_NV


@pytest.fixture(params=CONFIGS)
def head(request: pytest.FixtureRequest) -> Head[Any]:
    torch.manual_seed(0)
    head = load_registry().build(CONFIGS[request.param])
    with torch.no_grad():
        # Away from the beginning, where biases are zero and distributions nearly flat.
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return head.eval()


def chunk_of(head: Head[Any]) -> int:
    return int(head.config.facts().chunk_tokens)


def inputs(rows: int, size: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = 2 * torch.randn(rows, size, D, generator=generator)
    return hidden, torch.randint(0, V, (rows, size), generator=generator)


def test_what_is_drawn_from_is_what_is_scored(head: Head[Any]) -> None:
    """Exactly: the logits given to the sampler, at what was drawn, make up the chunk's log-probability."""
    chunk = chunk_of(head)
    hidden, before = inputs(3, chunk)
    sampler = RecordingSampler()
    with torch.no_grad():
        proposed = head.propose(hidden, TokenDraw(sampler, before, seeds=[1, 2, 3]))
        padded = torch.cat([hidden, torch.zeros_like(hidden)], dim=1)
        scored = head.log_probs(padded, torch.cat([before, proposed], dim=1))[:, chunk:].sum(dim=1)
    logs = [logits.log_softmax(-1).view(3, -1, logits.shape[-1]) for logits in sampler.seen]
    if head.config.facts().draws == "tokens":
        ids = proposed
    else:
        bits = (proposed[..., None] >> torch.arange(2, -1, -1)) & 1
        # One draw for each bit: of all tokens of the chunk at once, or token after token.
        ids = (bits.transpose(1, 2) if logs[0].shape[1] == chunk else bits).flatten(1)
    drawn = torch.cat(logs, dim=1).gather(-1, ids[..., None])[..., 0].sum(dim=1)
    assert torch.allclose(drawn, scored, atol=1e-4)


def test_packed_heads_give_the_same(head: Head[Any]) -> None:
    hidden, tokens = inputs(2, 3 * chunk_of(head))
    chunk = chunk_of(head)
    packed = packed_copy(head, weights="fp32", few=0)
    assert not any(type(part) is torch.nn.Linear for part in packed.modules())
    with torch.no_grad():
        plain = head.log_probs(hidden, tokens)
        assert torch.allclose(packed.log_probs(hidden, tokens), plain, atol=1e-4, equal_nan=True)
        proposals = [
            one.propose(hidden[:, :chunk], TokenDraw(RecordingSampler(), tokens[:, :chunk], seeds=[1, 2]))
            for one in (head, packed)
        ]
        coarse = packed_copy(head, weights="int8").log_probs(hidden, tokens)
    assert torch.equal(*proposals)
    assert (coarse - plain)[:, chunk:].abs().max() < 0.5
