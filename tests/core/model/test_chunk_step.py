"""Whole steps of a language model: what an engine draws in one is what is drawn part by part."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wavslm_core import SpeechLM
from wavslm_core.errors import CheckpointError, WavslmError
from wavslm_core.model.chunk_step import ChunkEngine, ChunkStep, inverted
from wavslm_core.model.sampling import TokenDraw, draw_ids
from wavslm_core.parts.engines import Engine
from wavslm_core.parts.interfaces import Draw, Sampler, SamplingContext, State
from wavslm_core.parts.plugins import load_registry
from wavslm_core.testing.fakes import FakeHead, FakeSamplerConfig, fake_codec, fake_speech_lm

CHUNK = 1280
whole_steps: list[Tensor] = []


def exported(step: nn.Module, x: Tensor, state: State, *, weights: str) -> Callable[..., Any]:
    """An engine: graphs of `torch.export`, which write the next state over the one they are given."""
    graph = torch.export.export(step.eval(), (x, *state)).module()

    def run(x: Tensor, state: State) -> tuple[Tensor, State]:
        if isinstance(step, ChunkStep):
            whole_steps.append(x)
        y, *left = graph(x, *state)
        for tensor, next_tensor in zip(state, left, strict=True):
            tensor.copy_(next_tensor.clone())
        return y, state

    return run


def engine_of(name: str, *, whole_chunks: bool = True) -> Engine:
    by = "tests", "1", "tests"
    return Engine(name, f"{__name__}:{name}", ("fp32", "int8"), "For tests.", *by, whole_chunks=whole_chunks)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of("exported")
    monkeypatch.setattr(load_registry(), "_engines", {"exported": engine})


class Counting(Sampler):
    """Likes tokens that stand in the history, and the more the later it is."""

    class Config(FakeSamplerConfig):
        def facts(self) -> Any:
            return super().facts().__class__(history_tokens=6)

    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        seen_NV = torch.zeros_like(logits_NV)
        seen_NV = seen_NV.scatter_add(1, context.history_NH.clamp(min=0), seen_NV[:, :6] + 0.5)
        return 3 * logits_NV + seen_NV * context.positions_N[:, None].remainder(7)


def model_of(
    *, reads: str = "features", chunk_tokens: int = 4, sampler: Sampler | None = None, **codec: Any
) -> SpeechLM:
    torch.manual_seed(0)
    model = fake_speech_lm(fake_codec(**codec), reads=reads, chunk_tokens=chunk_tokens)
    model.sampler = Counting(Counting.Config()) if sampler is None else sampler
    return model


def fast_of(model: SpeechLM) -> SpeechLM:
    fast = model.for_inference(engine="exported")
    whole_steps.clear()
    return fast


def recorded(chunks: int) -> Tensor:
    return 0.1 * torch.randn(1, chunks * CHUNK, generator=torch.Generator().manual_seed(0))


OPTIONS: list[dict[str, Any]] = [
    {},
    {"delay_samples": 700},
    {"reads": "embedding"},
    {"chunk_tokens": 8},
    {"chunk_tokens": 2, "reads": "embedding"},
    {"chunk_tokens": 2},
    {"max_run": 3},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_tokens_are_those_of_torch(options: dict[str, Any]) -> None:
    model = model_of(**options)
    fast, tokens = fast_of(model), torch.randint(32, (1, 16))
    expected = model.generate(tokens, new_tokens=80, seed=4)
    assert torch.equal(fast.generate(tokens, new_tokens=80, seed=4), expected)
    assert len(whole_steps) == 80 // model.chunk_tokens - 1
    assert len(expected.unique()) > 8


@pytest.mark.parametrize("options", OPTIONS)
def test_rows_of_a_session_come_rest_and_go(options: dict[str, Any]) -> None:
    """A row that speaks alone goes through whole steps, others are batches; all over the same states."""
    model = model_of(**options)
    said: list[list[Tensor]] = []
    for way in (model, fast_of(model)):
        session, pieces = way.session(), []
        session.join(seed=1)
        pieces += session.hear(recorded(4))
        for _ in range(3):
            pieces += session.speak()
        session.join(seed=2)
        pieces += session.hear(recorded(5)[:, CHUNK:], [1])
        for rows in ([0, 1], [0], [0], [1], [1], [1], [0, 1], [0, 1], [0], [0]):
            pieces += session.speak(rows)
        pieces += session.hear(recorded(2), [0])
        advanced, _ = session.advance({1: recorded(1)[0]}, speaking=[0])
        pieces += [advanced[row] for row in (0, 1)]
        for _ in range(3):
            pieces += session.speak([0])
        pieces.append(session.leave(0))
        for _ in range(3):
            pieces += session.speak()
        said.append(pieces)
    for given, expected in zip(*said, strict=True):
        torch.testing.assert_close(given, expected, atol=1e-5, rtol=0.0)
    # Where decoder and backbone read features of different chunks, a session steps part by part.
    assert (len(whole_steps) > 10) == (options not in ({"chunk_tokens": 2}, {"max_run": 3}))


def test_batches_draw_in_whole_steps_if_they_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = replace(engine_of("exported"), any_rows=True)
    monkeypatch.setattr(load_registry(), "_engines", {"exported": engine})
    model, tokens = model_of(), torch.randint(32, (3, 16))
    fast = model.for_inference(engine="exported", rows=(3, 1))
    for rows, steps in ((3, 19), (2, 0), (1, 19)):
        whole_steps.clear()
        expected = model.generate(tokens[:rows], new_tokens=80, seed=4)
        assert torch.equal(fast.generate(tokens[:rows], new_tokens=80, seed=4), expected)
        assert [len(numbers) for numbers in whole_steps] == [rows] * steps
    # Where rows have nothing to draw from, all that goes wrong is said.
    with torch.no_grad():
        model.backbone.gru.weight_ih_l0.fill_(torch.nan)
    with pytest.raises(CheckpointError, match="gives no number for what comes next"):
        fast.generate(tokens, new_tokens=8)


def test_other_samplers_draw_part_by_part() -> None:
    model = model_of()
    fast, tokens = fast_of(model), torch.randint(32, (1, 16))
    own, equal = FakeSamplerConfig(), Counting(Counting.Config())
    for sampler, steps in ((own, 0), (equal, 4), (None, 4)):
        whole_steps.clear()
        given = fast.generate(tokens, new_tokens=20, sampler=sampler)
        assert torch.equal(given, model.generate(tokens, new_tokens=20, sampler=sampler))
        assert len(whole_steps) == steps
    session = fast.session(sampler=own)
    session.join()
    session.read(tokens)
    whole_steps.clear()
    for _ in range(3):
        session.speak()
    assert not whole_steps


def test_copies_share_it_and_pickles_do_without() -> None:
    model = model_of()
    model.sampler = load_registry().build(FakeSamplerConfig())
    fast, tokens = fast_of(model), torch.randint(32, (1, 16))
    expected = fast.generate(tokens, new_tokens=20)
    copied, again = copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))
    assert isinstance(copied.chunk_engine, ChunkEngine)
    whole_steps.clear()
    assert torch.equal(copied.generate(tokens, new_tokens=20), expected)
    assert len(whole_steps) == 4
    assert torch.equal(again.generate(tokens, new_tokens=20), expected)
    assert len(whole_steps) == 4


def test_a_model_that_gives_no_number_says_so() -> None:
    model = model_of()
    fast = fast_of(model)
    session = fast.session()
    session.join()
    session.read(torch.zeros(1, 4).long())
    session.speak()
    continuation = fast.stream(torch.zeros(1, 4).long())
    next(continuation)
    with torch.no_grad():
        model.backbone.gru.weight_ih_l0.fill_(torch.nan)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="gives no number for what comes next"):
            session.speak()
    with pytest.raises(CheckpointError, match="gives no number for what comes next"):
        fast.generate(torch.zeros(1, 4).long(), new_tokens=8)
    assert whole_steps


def test_an_engine_that_does_not_ask_for_it_steps_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of("exported", whole_chunks=False)
    monkeypatch.setattr(load_registry(), "_engines", {"exported": engine})
    fast = fast_of(model_of())
    fast.generate(torch.zeros(1, 4).long(), new_tokens=12)
    assert fast.chunk_engine is None
    assert not whole_steps


class Peeking(FakeHead):
    """Looks at values."""

    def propose(self, hidden_BCD: Tensor, draw: Draw) -> Tensor:
        return super().propose(hidden_BCD if float(hidden_BCD.sum()) > 0 else hidden_BCD + 1, draw)


def test_a_head_that_is_no_graph_is_left_to_torch() -> None:
    model = model_of()
    head = Peeking(model.head.config)
    head.load_state_dict(model.head.state_dict())
    model.head = head
    with pytest.warns(UserWarning, match="exported steps part by part, and draws as torch does: no graph of"):
        fast = fast_of(model)
    tokens = torch.randint(32, (1, 16))
    assert torch.equal(fast.generate(tokens, new_tokens=20), model.generate(tokens, new_tokens=20))
    assert fast.chunk_engine is None
    assert not whole_steps


def confused(step: nn.Module, x: Tensor, state: State, *, weights: str) -> Callable[..., Any]:
    """An engine that draws one token for another."""
    run = exported(step, x, state, weights=weights)

    def next_ones(x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = run(x, state)
        return (y + 1 if isinstance(step, ChunkStep) else y), state

    return next_ones


def test_a_whole_step_that_draws_something_else_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = engine_of("confused")
    monkeypatch.setattr(load_registry(), "_engines", {"confused": broken})
    with pytest.raises(WavslmError, match=r"something else than torch \(100 % of the tokens differ"):
        model_of().for_inference(engine="confused")


def astray(step: nn.Module, x: Tensor, state: State, *, weights: str) -> Callable[..., Any]:
    """An engine whose whole step thinks of something else."""
    run = exported(step, x, state, weights=weights)

    def others(x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = run(x, state)
        if isinstance(step, ChunkStep):
            read, hidden, *rest = state
            state = (read, 2 * hidden, *rest)
        return y, state

    return others


@pytest.mark.parametrize("weights", ["fp32", "int8"])
def test_a_whole_step_that_computes_something_else_is_found_out(
    monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    """Where tokens may differ by rounding, hidden states tell."""
    monkeypatch.setattr(load_registry(), "_engines", {"astray": engine_of("astray")})
    with pytest.raises(WavslmError, match=r"something else than torch \(relative difference 1\)"):
        model_of().for_inference(weights=weights, engine="astray")


def test_a_chunk_is_drawn_with_the_numbers_of_its_row() -> None:
    model = model_of()
    step = ChunkStep(model.codec.quantizer, model.backbone, model.head, model.sampler)
    assert step.uniforms == 4
    state = step.after(torch.arange(4)[None])
    said_1C, *_ = step(torch.rand(1, 4, generator=torch.Generator().manual_seed(5)), *state)
    draw = TokenDraw(model.sampler, torch.arange(4)[None], seeds=[5])
    assert [*map(int, draw.state()[1:2])] == [0]
    hidden = model.backbone.step(state[0], step.split(state)[2])[0]
    draw._position = draw._chunk_position = 4
    assert torch.equal(said_1C, model.head.propose(hidden, draw))


def test_ids_are_inverted_as_they_are_drawn_and_rows_without_any_are_known() -> None:
    logits = 2 * torch.randn(500, 40)
    logits[torch.rand(500, 40) < 0.3] = -torch.inf
    uniform = torch.rand(500)
    uniform[:2] = torch.tensor([0.0, 1 - 2**-24])
    ids, found = inverted(logits, uniform)
    assert torch.equal(ids, draw_ids(logits, uniform))
    assert found.all()
    broken = torch.stack([torch.full((40,), value) for value in (torch.nan, -torch.inf, torch.inf)])
    ids, found = inverted(broken, torch.rand(3))
    assert ids.tolist() == [0, 0, 0]
    assert not found.any()
