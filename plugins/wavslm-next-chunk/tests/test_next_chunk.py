"""The head and the samplers against plain definitions."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from wavslm_core.drawing import TokenDraw, draw_ids
from wavslm_core.interfaces import Sampler, SamplingContext
from wavslm_core.plugins import load_registry
from wavslm_next_chunk.config import (
    GreedyConfig,
    MinPConfig,
    NextChunkConfig,
    TopKConfig,
    TopPConfig,
)
from wavslm_next_chunk.head import NextChunkHead
from wavslm_next_chunk.samplers import GreedySampler, MinPSampler, TopKSampler, TopPSampler


@pytest.fixture
def head() -> NextChunkHead:
    return NextChunkHead(NextChunkConfig(input_dim=8, vocab_size=11, chunk_tokens=3))


def test_log_probs_are_the_shifted_softmax(head: NextChunkHead) -> None:
    hidden, tokens = torch.randn(2, 10, 8), torch.randint(0, 11, (2, 10))
    log_probs = head.log_probs(hidden, tokens)
    table = head.logits(hidden).log_softmax(-1)
    assert bool(log_probs[:, :3].isnan().all())
    for row in range(2):
        for t in range(3, 10):
            assert torch.allclose(log_probs[row, t], table[row, t - 3, tokens[row, t]], atol=1e-6)


@pytest.mark.parametrize("size", [1, 3])
def test_a_first_chunk_alone_predicts_nothing(head: NextChunkHead, size: int) -> None:
    log_probs = head.log_probs(torch.randn(1, size, 8), torch.zeros(1, size, dtype=torch.int64))
    assert log_probs.shape == (1, size)
    assert bool(log_probs.isnan().all())


def test_probabilities_sum_to_one(head: NextChunkHead) -> None:
    hidden = torch.randn(1, 4, 8).expand(11, -1, -1)
    tokens = torch.zeros(11, 4, dtype=torch.int64)
    tokens[:, 3] = torch.arange(11)
    assert head.log_probs(hidden, tokens)[:, 3].exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_the_state_dict_is_the_official_one(head: NextChunkHead) -> None:
    assert {key: list(value.shape) for key, value in head.state_dict().items()} == {"weight": [11, 8]}


def adjusted(sampler: Sampler, logits: torch.Tensor) -> torch.Tensor:
    rows = len(logits)
    context = SamplingContext(torch.zeros(rows, dtype=torch.int64), torch.zeros(rows, 0, dtype=torch.int64))
    return sampler.adjust(logits, context)


def frequencies(sampler: Sampler, probabilities: Sequence[float], draws: int = 20000) -> torch.Tensor:
    logits = torch.tensor(probabilities).log().expand(draws, -1)
    uniform = torch.rand(draws, generator=torch.Generator().manual_seed(0))
    ids = draw_ids(adjusted(sampler, logits), uniform)
    return torch.bincount(ids, minlength=len(probabilities)) / draws


PROBABILITIES = [0.05, 0.4, 0.25, 0.2, 0.1]


@pytest.mark.parametrize(
    ("sampler", "kept"),
    [
        (TopPSampler(TopPConfig(p=1.0, temperature=1)), [0, 1, 2, 3, 4]),
        (TopPSampler(TopPConfig(p=0.3, temperature=1)), [1]),
        (TopPSampler(TopPConfig(p=0.45, temperature=1)), [1, 2]),
        (TopPSampler(TopPConfig(p=0.0, temperature=1)), [1]),
        (TopKSampler(TopKConfig(k=3, temperature=1)), [1, 2, 3]),
        (TopKSampler(TopKConfig(k=99, temperature=1)), [0, 1, 2, 3, 4]),
        (MinPSampler(MinPConfig(p=0.45, temperature=1)), [1, 2, 3]),
        (GreedySampler(GreedyConfig()), [1]),
    ],
)
def test_frequencies_match_the_truncated_distribution(sampler: Sampler, kept: list[int]) -> None:
    expected = torch.zeros(5)
    expected[kept] = torch.tensor(PROBABILITIES)[kept]
    expected /= expected.sum()
    observed = frequencies(sampler, PROBABILITIES)
    assert bool((observed[expected == 0] == 0).all())
    inside = expected > 0
    chi_square = (20000 * (observed - expected)[inside].square() / expected[inside]).sum().item()
    assert chi_square < 20, f"chi-square {chi_square:.1f} with {int(inside.sum()) - 1} degrees of freedom"


def test_temperature_sharpens() -> None:
    cold = frequencies(TopPSampler(TopPConfig(p=1.0, temperature=0.5)), PROBABILITIES)
    squared = torch.tensor(PROBABILITIES).square()
    assert torch.allclose(cold, squared / squared.sum(), atol=0.02)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_the_ends_of_the_unit_interval_stay_inside(uniform: float) -> None:
    logits = torch.randn(64, 1000, generator=torch.Generator().manual_seed(1))
    sampler = TopPSampler(TopPConfig(p=0.5, temperature=1))
    ids = draw_ids(adjusted(sampler, logits), torch.full((64,), uniform))
    probabilities = logits.softmax(-1)
    chosen = probabilities.gather(1, ids[:, None])
    before = (probabilities * (probabilities > chosen)).sum(-1)
    assert bool((before <= 0.5 + 1e-4).all())


def test_proposals_do_not_depend_on_the_batch(head: NextChunkHead) -> None:
    hidden = torch.randn(3, 3, 8)
    sampler = TopPSampler(TopPConfig(p=0.9))
    prompt = torch.zeros(3, 3, dtype=torch.int64)
    batch = head.propose(hidden, TokenDraw(sampler, prompt, seeds=[4, 5, 6]))
    alone = head.propose(hidden[1:2], TokenDraw(sampler, prompt[1:2], seeds=[5]))
    assert torch.equal(batch[1:2], alone)


def test_everything_is_registered() -> None:
    registry = load_registry()
    assert registry.names("head").count("next_chunk") == 1
    assert {"top_p", "top_k", "min_p", "greedy"} <= set(registry.names("sampler"))
