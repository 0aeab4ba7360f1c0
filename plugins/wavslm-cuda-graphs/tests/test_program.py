"""Programs: the next state lies where the last one lay, and nothing needs the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from wavslm_core.errors import WavslmError
from wavslm_core.model.chunk_step import ChunkStep
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.parts.interfaces import State
from wavslm_core.testing.gpu import gpu, recording
from wavslm_cuda_graphs.program import in_place_program

pytestmark = pytest.mark.slow


def whole_step(model: SpeechLM, rows: int) -> tuple[ChunkStep, Tensor, State]:
    """Return a model's whole step, and uniform numbers and a state for it."""
    step = ChunkStep(model.codec.quantizer, model.backbone, model.head, model.sampler)
    device = step.next.device
    state = step.after(torch.zeros(rows, 4, dtype=torch.int64, device=device))
    return step, torch.zeros(rows, step.uniforms, device=device), state


class Written(TorchDispatchMode):
    """Keeps how many numbers each operator gives."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[str, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor):
            self.sizes.append((str(func), found.numel()))
        return found


def test_rings_are_written_where_they_lie(model: SpeechLM) -> None:
    step, x, state = whole_step(model, 2)
    program = in_place_program(step, x, state, named="step")
    expected = [(x, state)]
    for _ in range(30):
        y, *left = step(x, *(tensor.clone() for tensor in expected[-1][1]))
        expected.append((y, tuple(left)))
    held = [tensor.clone() for tensor in state]
    with Written() as written:
        for y, left in expected[1:]:
            assert torch.equal(program(x, held), y)
            for tensor, next_tensor in zip(held, left, strict=True):
                torch.testing.assert_close(tensor, next_tensor)
    names = {name for name, _ in written.sizes}
    assert "aten.index_copy_.default" in names
    assert "aten.index_copy.default" not in names


@pytest.mark.parametrize("rows", [1, 3])
def test_nothing_needs_the_cpu(model: SpeechLM, rows: int) -> None:
    """What is exported for a GPU reads nothing there, and takes nothing from elsewhere."""
    with gpu() as device:
        step, x, state = whole_step(copied(model).to(device), rows)
        held = [tensor.to(device) for tensor in state]
        program = in_place_program(step, x, held, named="step")
        with recording():
            said = program(x, held)
        assert said.device == device
        assert said.shape == (rows, 4)


def copied(model: SpeechLM) -> SpeechLM:
    """Return a model that may move away: another one with the same weights."""
    import copy

    moving = copy.deepcopy(model)
    moving._codec = (copy.deepcopy(model.codec),)
    return moving


class Shifting(nn.Module):
    """Its next state and y are views of the last one."""

    def forward(self, x: Tensor, last: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return last[:, 1:], torch.cat([last[:, 1:], x], dim=1), last[:, :2]


class Swapping(nn.Module):
    """Its state changes places."""

    def forward(self, x: Tensor, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x + one, other, one


@pytest.mark.parametrize("step", [Shifting(), Swapping()])
def test_views_of_a_state_are_not_overwritten_before_they_are_read(step: nn.Module) -> None:
    size = 2 if isinstance(step, Swapping) else 5
    state = [torch.randn(1, size), torch.randn(1, 2)]
    x = torch.randn(1, 1)
    program = in_place_program(step, x, [tensor.clone() for tensor in state], named="step")
    held = [tensor.clone() for tensor in state]
    for _ in range(4):
        expected, *state = (tensor.clone() for tensor in step(x, *state))
        assert torch.equal(program(x, held), expected)
        for tensor, next_tensor in zip(held, state, strict=True):
            assert torch.equal(tensor, next_tensor)


class Peeking(nn.Module):
    def forward(self, x: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        return (x if int(count) > 3 else -x), count + 1


def test_a_step_that_looks_at_values_is_refused() -> None:
    with pytest.raises(
        WavslmError, match=r"cannot make a graph of the step of Peeking: .*Leave the engine out"
    ):
        in_place_program(Peeking(), torch.ones(1, 4), (torch.zeros(()),), named="Peeking")
