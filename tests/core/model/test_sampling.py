"""Drawing tokens: frequencies, the ends of the unit interval, histories and positions."""

import pytest
import torch
from torch import Tensor

from wavslm_core.data.arguments import checked_seeds
from wavslm_core.errors import CheckpointError, PluginError
from wavslm_core.model.sampling import NO_TOKEN, JoinedDraw, TokenDraw, candidate_seeds, draw_ids
from wavslm_core.parts.facts import SamplerFacts
from wavslm_core.parts.interfaces import Sampler, SamplingContext
from wavslm_core.testing.fake_configs import FakeSamplerConfig


class WatcherConfig(FakeSamplerConfig):
    def facts(self) -> SamplerFacts:
        return SamplerFacts(history_tokens=3)


class Watcher(Sampler):
    """Keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__(WatcherConfig())
        self.seen: list[SamplingContext] = []

    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        self.seen.append(context)
        return logits_NV


def test_frequencies_match_the_probabilities() -> None:
    probabilities = torch.tensor([0.05, 0.4, 0.0, 0.25, 0.3])
    uniform = torch.rand(20000, generator=torch.Generator().manual_seed(0))
    ids = draw_ids(probabilities.log().expand(20000, -1), uniform)
    observed = torch.bincount(ids, minlength=5) / 20000
    assert observed[2] == 0
    inside = probabilities > 0
    chi_square = (20000 * (observed - probabilities)[inside].square() / probabilities[inside]).sum().item()
    assert chi_square < 16.3, f"chi-square {chi_square:.1f} with 3 degrees of freedom"


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_the_ends_of_the_unit_interval_never_draw_what_was_dropped(uniform: float) -> None:
    logits = torch.randn(64, 1000, generator=torch.Generator().manual_seed(1))
    dropped = torch.rand(64, 1000, generator=torch.Generator().manual_seed(2)) < 0.9
    dropped[:, [0, -1]] = True
    ids = draw_ids(logits.masked_fill(dropped, -torch.inf), torch.full((64,), uniform))
    assert not bool(dropped.gather(1, ids[:, None]).any())


def test_samplers_see_the_tokens_and_places_before_each_draw() -> None:
    sampler = Watcher()
    prompt = torch.tensor([[1, 2], [3, 4]])
    draw = TokenDraw(sampler, prompt, seeds=[0, 1])
    one_hot = torch.full((2, 1, 9), -torch.inf)
    one_hot[..., 7] = 0
    assert draw.tokens(one_hot).tolist() == [[7], [7]]
    draw.tokens(one_hot.expand(-1, 2, -1))
    first, second = sampler.seen
    assert first.history_NH.tolist() == [[NO_TOKEN, 1, 2], [NO_TOKEN, 3, 4]]
    assert second.history_NH.tolist() == [[1, 2, 7], [1, 2, 7], [3, 4, 7], [3, 4, 7]]
    assert second.positions_N.tolist() == [1, 2, 1, 2]
    draw.end_chunk(torch.tensor([[5, 6, 7], [6, 6, 6]]))
    draw.symbols(torch.zeros(2, 4, 2))
    draw.tokens(one_hot)
    symbols, third = sampler.seen[2:]
    assert symbols.history_NH.shape == (8, 0)
    assert symbols.positions_N.tolist() == [3] * 8
    assert third.history_NH.tolist() == [[5, 6, 7], [6, 6, 6]]
    assert third.positions_N.tolist() == [3, 3]


def test_a_row_draws_the_same_alone() -> None:
    logits = torch.randn(3, 5, 50)
    batch = TokenDraw(Watcher(), torch.zeros(3, 4, dtype=torch.int64), seeds=[4, 5, 6]).tokens(logits)
    alone = TokenDraw(Watcher(), torch.zeros(1, 4, dtype=torch.int64), seeds=[5]).tokens(logits[1:2])
    assert torch.equal(batch[1:2], alone)


def test_seeds() -> None:
    assert checked_seeds(3, 2) == [3, 4]
    assert candidate_seeds([3, 4], 1) == [3, 4]
    seeds = candidate_seeds(range(1000), 8)
    assert seeds[::8] == list(range(1000))
    assert len(set(seeds)) == 8000


def test_heads_see_the_tokens_before_their_chunk() -> None:
    prompt = torch.tensor([[1, 2, 3, 4]])
    draw = TokenDraw(Watcher(), prompt, seeds=[0])
    draw.tokens(torch.zeros(1, 2, 9))
    assert torch.equal(draw.before_BT, prompt)
    draw.end_chunk(torch.tensor([[5, 6]]))
    assert draw.before_BT.tolist() == [[5, 6]]


class DropsAll(Sampler):
    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        return torch.full_like(logits_NV, -torch.inf)


def test_a_model_that_gives_nan_is_not_drawn_from() -> None:
    logits = torch.randn(2, 3, 9)
    logits[1, 2, 4] = torch.nan
    draw = TokenDraw(Watcher(), torch.zeros(2, 4, dtype=torch.int64), seeds=[0, 1])
    with pytest.raises(CheckpointError, match=r"no number for what comes next: its weights .* Load another"):
        draw.tokens(logits)


def test_a_sampler_that_drops_every_token_is_named() -> None:
    sampler = DropsAll(FakeSamplerConfig())
    draw = TokenDraw(sampler, torch.zeros(1, 4, dtype=torch.int64), seeds=[0])
    with pytest.raises(PluginError, match=r"sampler 'fake' .*left no token to draw: .*use another sampler"):
        draw.symbols(torch.randn(1, 3, 9))


class Keeps(Sampler):
    """Leaves the tokens that it was shown last, and fails in the end."""

    def __init__(self, history: int, *, fails_at: int = 10**6) -> None:
        class Config(FakeSamplerConfig):
            def facts(self) -> SamplerFacts:
                return SamplerFacts(history_tokens=history)

        super().__init__(Config())
        self.fails_at = fails_at

    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        if int(context.positions_N.max()) >= self.fails_at:
            raise ZeroDivisionError("no more")
        weight = context.history_NH.clamp(min=0).sum(1, keepdim=True) + context.positions_N[:, None]
        return logits_NV + 0.1 * weight * torch.arange(logits_NV.shape[1])


def test_rows_with_their_own_samplers_draw_together_what_they_draw_alone() -> None:
    shared = Keeps(2)

    def draws() -> list[TokenDraw]:
        prompts = [torch.tensor([list(range(size))]) for size in (3, 5, 8, 4)]
        samplers = (shared, Keeps(3), shared, Watcher())
        return [
            TokenDraw(sampler, prompt, seeds=[seed])
            for seed, (sampler, prompt) in enumerate(zip(samplers, prompts, strict=True))
        ]

    together, alone = draws(), draws()
    for chunk in range(4):
        joined = JoinedDraw(together)
        if chunk == 0:
            assert joined.before_BT.tolist() == [[0, 1, 2], [2, 3, 4], [5, 6, 7], [1, 2, 3]]
        logits = torch.randn(4, 2, 9)
        for call in (joined.symbols, joined.tokens, joined.tokens):
            expected = [getattr(draw, call.__name__)(logits[row : row + 1]) for row, draw in enumerate(alone)]
            tokens = call(logits)
            assert torch.equal(tokens, torch.cat(expected))
        for row, draw in enumerate(together):
            draw.end_chunk(tokens[row : row + 1])
            alone[row].end_chunk(tokens[row : row + 1])
        assert joined.failed == {}


def test_what_goes_wrong_with_a_row_goes_wrong_with_that_one_alone() -> None:
    prompt = torch.zeros(1, 4, dtype=torch.int64)
    samplers = (Watcher(), Keeps(0, fails_at=2), DropsAll(FakeSamplerConfig()), Watcher())
    draws = [TokenDraw(sampler, prompt, seeds=[row]) for row, sampler in enumerate(samplers)]
    logits = torch.randn(4, 3, 9)
    logits[3, 1, 1] = torch.nan
    joined = JoinedDraw(draws)
    tokens = joined.tokens(logits)
    alone = TokenDraw(Watcher(), prompt, seeds=[0]).tokens(logits[:1])
    assert torch.equal(tokens[:1], alone)
    assert int(tokens.max()) < 9
    kinds = {row: type(error) for row, error in joined.failed.items()}
    assert kinds == {1: ZeroDivisionError, 2: PluginError, 3: CheckpointError}
