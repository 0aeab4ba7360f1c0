"""The engine `inductor`: compiled steps are torch's steps, one package serves all models of one shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wavslm_core.errors import WavslmError
from wavslm_core.machine.timings import FOLDER_VARIABLE
from wavslm_core.model.continuation import Continuation
from wavslm_core.model.inference import EngineStep, Traceable
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.parts.interfaces import State
from wavslm_core.parts.slots import Slots
from wavslm_core.parts.streaming import stream_mode
from wavslm_inductor import packages
from wavslm_inductor.engine import compiled

CHUNK, VOCABULARY = 4, 64
CHUNKS = 60
"""Rings of all sizes in the model wrap several times."""


class Reading(nn.Module):
    """Decodes tokens to features and lets the backbone read them, as one step: one to compile is enough."""

    def __init__(self, model: SpeechLM) -> None:
        super().__init__()
        self.quantizer, self.backbone = model.codec.quantizer, model.backbone
        self.kept = len(self.quantizer.init_decode_state(1))

    def init_state(self, batch_size: int) -> State:
        return self.quantizer.init_decode_state(batch_size) + self.backbone.init_state(batch_size)

    def step(self, tokens_BC: Tensor, state: State) -> tuple[Tensor, State]:
        features_BTD, first = self.quantizer.decode_step(tokens_BC, state[: self.kept])
        hidden_BCD, second = self.backbone.step(features_BTD, state[self.kept :])
        return hidden_BCD, first + second


class Counting(nn.Module):
    """The least that is a step."""

    def forward(self, x: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        return x * count, count + 1


def count() -> Callable[..., Any]:
    return compiled(Counting(), torch.ones(1, 4), (torch.zeros(1),), weights="fp32")


def fast_step(reading: Reading) -> EngineStep:
    tokens_1C = torch.zeros(1, CHUNK, dtype=torch.int64)
    with stream_mode():
        state = reading.init_state(1)
        fast = compiled(Traceable(reading, "step"), tokens_1C, state, weights="fp32")
        return EngineStep(reading.step, fast, tokens_1C, state)


@pytest.fixture(scope="module")
def reading(model: SpeechLM) -> Reading:
    return Reading(model).eval()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(folder))
        yield folder / "inductor"


@pytest.fixture(scope="module")
def fast(reading: Reading, cache: Path) -> EngineStep:
    if not packages.has_compiler():
        pytest.skip("no C++ compiler is found here")
    return fast_step(reading)


def drawn(model: SpeechLM, step: Callable[..., Any], start: Callable[[int], State]) -> Tensor:
    """Read two chunks, and draw the others with the model's head and sampler."""
    continuation = Continuation(model, model.sampler, seeds=[3])
    state, tokens_1C = start(1), torch.arange(CHUNK)[None]
    pieces = []
    for _ in range(CHUNKS):
        hidden_1CD, state = step(tokens_1C, state)
        tokens_1C = model.head.propose(hidden_1CD, continuation._draw)
        continuation._draw.end_chunk(tokens_1C)
        pieces.append(tokens_1C)
    return torch.cat(pieces, dim=1)


@pytest.mark.slow
@stream_mode()
def test_tokens_are_those_of_torch(model: SpeechLM, reading: Reading, fast: EngineStep) -> None:
    """Drawn with the same random numbers, long after all windows are full."""
    expected = drawn(model, reading.step, reading.init_state)
    assert torch.equal(drawn(model, fast, reading.init_state), expected)
    assert len(expected.unique()) > VOCABULARY // 4


@pytest.mark.slow
@stream_mode()
def test_rows_join_rest_and_leave(reading: Reading, fast: EngineStep) -> None:
    """One row goes through the compiled step, several at once through torch, over the same states."""
    generator = torch.Generator().manual_seed(0)
    ours, theirs = Slots(reading.init_state, reading.step), Slots(reading.init_state, fast)
    acting = [[0]] * 3 + [[0, 1]] * 3 + [[1]] * 9 + [[0]] * 5 + [[1, 0, 2]] * 2 + [[2]] * 12 + [[0]] * 3
    for turn, rows in enumerate(acting):
        if turn == 25:
            for slots in (ours, theirs):
                slots.end(1)
        pieces = {row: torch.randint(0, VOCABULARY, (CHUNK,), generator=generator) for row in rows}
        expected, found = ours.advance(pieces), theirs.advance(pieces)
        for row in rows:
            torch.testing.assert_close(found[row], expected[row], atol=1e-4, rtol=0.0)


@pytest.mark.slow
@stream_mode()
def test_models_of_one_shape_share_what_is_compiled(
    other_model: SpeechLM, fast: EngineStep, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len([*cache.glob("*.pt2")]) == 1
    monkeypatch.setattr(packages, "_compile", None)
    other = Reading(other_model).eval()
    assert torch.equal(
        drawn(other_model, fast_step(other), other.init_state),
        drawn(other_model, other.step, other.init_state),
    )
    # The first one still has weights of its own.
    assert not torch.equal(
        drawn(other_model, fast, other.init_state), drawn(other_model, other.step, other.init_state)
    )


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    with pytest.raises(WavslmError, match=r"no C\+\+ compiler is found here: install one .*g\+\+"):
        count()
    assert not [*tmp_path.rglob("*.pt2")]


def test_a_damaged_package_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def noted(program: Any, path: Path, *, named: str) -> None:
        made.append(path)
        raise WavslmError("not today")

    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(packages, "_compile", noted)
    monkeypatch.setattr(packages, "json_digest", lambda identity: "digest")
    (tmp_path / "inductor").mkdir()
    (tmp_path / "inductor" / "digest.pt2").write_bytes(b"PK damaged")
    with pytest.raises(WavslmError, match="not today"):
        count()
    assert len(made) == 1
