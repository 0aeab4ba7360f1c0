"""The samplers against plain definitions."""

from collections.abc import Sequence

import pytest
import torch

from wavslm_core.model.sampling import draw_ids
from wavslm_core.parts.interfaces import Sampler, SamplingContext
from wavslm_samplers.config import (
    BestOfConfig,
    GreedyConfig,
    MinPConfig,
    RepetitionAwareConfig,
    RepetitionPenaltyConfig,
    TemperatureConfig,
    TopKConfig,
    TopPConfig,
    TypicalConfig,
)
from wavslm_samplers.reshaping import (
    BestOfSampler,
    RepetitionAwareSampler,
    RepetitionPenaltySampler,
    TemperatureSampler,
)
from wavslm_samplers.truncating import (
    FEW_TOKENS,
    SORTED_WHOLE,
    GreedySampler,
    MinPSampler,
    TopKSampler,
    TopPSampler,
    TypicalSampler,
    _first_until,
    _kept_above_the_last,
    _kept_among,
    kept_in_nucleus,
)


def adjusted(
    sampler: Sampler, logits: torch.Tensor, *, position: int = 0, history: Sequence[int] = ()
) -> torch.Tensor:
    rows = len(logits)
    history_NH = torch.tensor([list(history)] * rows, dtype=torch.int64)
    return sampler.adjust(logits, SamplingContext(torch.full((rows,), position), history_NH))


def frequencies(sampler: Sampler, probabilities: Sequence[float], draws: int = 20000) -> torch.Tensor:
    logits = torch.tensor(probabilities).log().expand(draws, -1)
    uniform = torch.rand(draws, generator=torch.Generator().manual_seed(0))
    ids = draw_ids(adjusted(sampler, logits), uniform)
    return torch.bincount(ids, minlength=len(probabilities)) / draws


PROBABILITIES = [0.05, 0.4, 0.25, 0.2, 0.1]


@pytest.mark.parametrize(
    ("sampler", "kept"),
    [
        (TopPSampler(TopPConfig(p=1.0)), [0, 1, 2, 3, 4]),
        (TopPSampler(TopPConfig(p=0.3)), [1]),
        (TopPSampler(TopPConfig(p=0.45)), [1, 2]),
        (TopPSampler(TopPConfig(p=0.0)), [1]),
        (TopKSampler(TopKConfig(k=3)), [1, 2, 3]),
        (TopKSampler(TopKConfig(k=99)), [0, 1, 2, 3, 4]),
        (MinPSampler(MinPConfig(p=0.45)), [1, 2, 3]),
        (TypicalSampler(TypicalConfig(p=1.0)), [0, 1, 2, 3, 4]),
        # Expected surprise 1.41 nats; surprises 3.00, 0.92, 1.39, 1.61, 2.30: token 2 is closest, then 3.
        (TypicalSampler(TypicalConfig(p=0.2)), [2]),
        (TypicalSampler(TypicalConfig(p=0.4)), [2, 3]),
        (BestOfSampler(BestOfConfig()), [0, 1, 2, 3, 4]),
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


@pytest.mark.parametrize("sampler", [TopPSampler(TopPConfig(p=1.0)), TypicalSampler(TypicalConfig(p=1.0))])
def test_everything_is_kept_of_many_tokens(sampler: Sampler) -> None:
    logits = torch.randn(8, 65536, generator=torch.Generator().manual_seed(0))
    assert torch.equal(adjusted(sampler, logits), logits)


def test_temperature_sharpens() -> None:
    cold = frequencies(TopPSampler(TopPConfig(p=1.0, temperature=0.5)), PROBABILITIES)
    squared = torch.tensor(PROBABILITIES).square()
    assert torch.allclose(cold, squared / squared.sum(), atol=0.02)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_the_ends_of_the_unit_interval_stay_inside(uniform: float) -> None:
    logits = torch.randn(64, 1000, generator=torch.Generator().manual_seed(1))
    sampler = TopPSampler(TopPConfig(p=0.5))
    ids = draw_ids(adjusted(sampler, logits), torch.full((64,), uniform))
    probabilities = logits.softmax(-1)
    chosen = probabilities.gather(1, ids[:, None])
    before = (probabilities * (probabilities > chosen)).sum(-1)
    assert bool((before <= 0.5 + 1e-4).all())


@pytest.mark.parametrize(("position", "temperature"), [(0, 2.0), (10, 1.0), (20, 0.5), (500, 0.5)])
def test_temperature_follows_its_schedule(position: int, temperature: float) -> None:
    sampler = TemperatureSampler(TemperatureConfig(start=2, end=0.5, over_tokens=20))
    logits = torch.randn(3, 7)
    assert torch.allclose(adjusted(sampler, logits, position=position), logits / temperature)
    steady = TemperatureSampler(TemperatureConfig(start=2))
    assert torch.equal(adjusted(steady, logits, position=position), logits / 2)


def test_penalties_count_recent_tokens() -> None:
    sampler = RepetitionPenaltySampler(RepetitionPenaltyConfig(penalty_nats=0.5, window_tokens=4))
    changed = adjusted(sampler, torch.zeros(1, 5), history=[-1, 2, 2, 0])
    assert changed.tolist() == [[-0.5, 0, -1, 0, 0]]


def test_a_repeated_token_gives_its_share_to_the_whole_distribution() -> None:
    """The mixture equals drawing from the nucleus and, when the token is repeated, again from all tokens."""
    config = RepetitionAwareConfig(p=0.45, window_tokens=4, max_share=0.5)
    sampler = RepetitionAwareSampler(config)
    logits = torch.tensor(PROBABILITIES).log().expand(40000, -1)
    generator = torch.Generator().manual_seed(3)
    nucleus = torch.tensor([0.0, 0.4, 0.25, 0.0, 0.0])
    first = torch.multinomial(nucleus, 40000, replacement=True, generator=generator)
    second = torch.multinomial(torch.tensor(PROBABILITIES), 40000, replacement=True, generator=generator)
    twice = torch.bincount(torch.where(first == 1, second, first), minlength=5) / 40000
    once = adjusted(sampler, logits[:1], history=[1, 1, 3, 1]).softmax(-1)[0]
    assert torch.allclose(once, twice, atol=0.01)
    rare = adjusted(sampler, logits[:1], history=[1, 1, 3, 0]).softmax(-1)[0]
    assert torch.allclose(rare, nucleus / nucleus.sum(), atol=1e-6)


def test_candidates_are_in_the_facts() -> None:
    assert BestOfConfig(candidates=7).facts().candidates == 7
    assert RepetitionPenaltyConfig(window_tokens=7).facts().history_tokens == 7


@pytest.mark.parametrize("p", [0.0, 0.01, 0.3, 0.8, 0.95])
@pytest.mark.parametrize("vocab_size", [SORTED_WHOLE // 2, SORTED_WHOLE + 1, 4096])
def test_a_nucleus_is_the_one_of_the_whole_order(vocab_size: int, p: float) -> None:
    """With ties, too, and where few do not suffice."""
    found_among_few = 0
    for seed in range(24):
        generator = torch.Generator().manual_seed(seed)
        logits_NV = torch.randn(3, vocab_size, generator=generator) * (1, 3, 6, 12)[seed % 4]
        logits_NV = logits_NV.round() if seed % 3 == 0 else logits_NV
        probabilities_NV = (logits_NV * (seed % 8 > 0)).softmax(dim=-1)
        order_NV = probabilities_NV.argsort(dim=-1, descending=True, stable=True)
        expected = _first_until(probabilities_NV, order_NV, p)
        assert torch.equal(kept_in_nucleus(probabilities_NV, p), expected)
        likeliest_NK = probabilities_NV.topk(FEW_TOKENS, dim=-1).values
        found_among_few += _kept_among(likeliest_NK, probabilities_NV, p) is not None
        # What graphs search for without sorting is the same, up to the rounding of sums at its edge.
        differing_NV = _kept_above_the_last(probabilities_NV, p) != expected
        assert differing_NV.sum() <= 1
        assert (probabilities_NV * differing_NV).sum() < 2e-5
    assert found_among_few > 5
    broken_NV = torch.full((1, vocab_size), torch.nan)
    assert kept_in_nucleus(broken_NV, p).sum() == 1
