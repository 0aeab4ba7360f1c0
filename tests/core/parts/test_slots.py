"""Slots: rows of one part begin, rest, advance together and end, and none hears of it."""

import random

import pytest
import torch
from torch import Tensor

from wavslm_core.parts.interfaces import State
from wavslm_core.parts.slots import Slots
from wavslm_core.parts.streaming import CausalConv1d


class Part:
    """A convolution over a ring, which counts its steps and remembers its last output along dimension 1.

    What it gives depends on all that it was given: on the ring, on the position and on the last output.
    """

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.conv = CausalConv1d(3, 3, 4)
        self.batches: list[int] = []
        self.positions: list[Tensor] = []
        self.states: list[tuple[State, State]] = []

    def init_state(self, batch_size: int) -> State:
        return (
            *self.conv.init_state(batch_size),
            torch.zeros(2, batch_size, 3),
            torch.full((4,), 0.5),
            torch.zeros(batch_size, 0),
        )

    def step(self, x_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        ring, position, last_2BD, scale_4, nothing_B0 = state
        self.batches.append(len(x_BTD))
        self.positions.append(position.clone())
        y_BTD, ring_state = self.conv.step(x_BTD, (ring, position))
        y_BTD = y_BTD + scale_4[0] * last_2BD.sum(0)[:, None] + 0.01 * position.view(-1, 1, 1)
        last_2BD = torch.stack([last_2BD[1], y_BTD[:, -1].tanh()])
        self.states.append((state, (*ring_state, last_2BD, scale_4, nothing_B0)))
        return y_BTD, self.states[-1][1]


def alone(part: Part, x_TD: Tensor, sizes: list[int]) -> Tensor:
    state, outputs = part.init_state(1), []
    with torch.no_grad():
        for piece in x_TD.split(sizes):
            output, state = part.step(piece[None], state)
            outputs.append(output[0])
    return torch.cat(outputs)


def test_rows_come_and_go_at_random_and_none_hears_of_it() -> None:
    part, chance = Part(), random.Random(0)
    slots = Slots(part.init_state, part.step)
    given: dict[int, list[Tensor]] = {}
    outputs: dict[int, list[Tensor]] = {}
    here: list[int] = []
    compared = 0
    for number in range(300):
        if len(here) < 4 or (len(here) < 9 and chance.random() < 0.1):
            here.append(number)
            given[number], outputs[number] = [], []
        acting = chance.sample(here, chance.randint(1, len(here)))
        size = chance.choice([1, 1, 1, 2, 40])
        pieces = {row: torch.randn(size, 3) for row in acting}
        for row, output in slots.advance(pieces).items():
            given[row].append(pieces[row])
            outputs[row].append(output)
        if chance.random() < 0.2:
            leaver = here.pop(chance.randrange(len(here)))
            slots.end(leaver)
            if given[leaver]:
                sizes = [len(piece) for piece in given[leaver]]
                expected = alone(part, torch.cat(given[leaver]), sizes)
                torch.testing.assert_close(torch.cat(outputs[leaver]), expected, atol=1e-5, rtol=1e-5)
                compared += len(sizes) > 5
        begun = {row for row in here if given[row]}
        assert {*slots.rows} == begun
    assert compared > 10


def test_only_those_that_act_are_computed_and_together() -> None:
    part = Part()
    slots = Slots(part.init_state, part.step)
    for rows in ([0, 1, 2, 3], [2], [3, 1], [0, 1, 2, 3]):
        slots.advance({row: torch.randn(1, 3) for row in rows})
    assert part.batches == [4, 1, 2, 4]
    last = part.positions[-1]
    assert sorted(last.tolist()) == [1, 2, 2, 2]


def test_a_step_of_the_same_rows_is_given_the_very_state_that_the_last_one_gave() -> None:
    """Nothing is copied, and what knows a stream by its state knows it again."""
    part = Part()
    slots = Slots(part.init_state, part.step)
    slots.advance({0: torch.randn(2, 3)})
    for rows in ([1], [0, 1], [0]):
        for _ in range(3):
            slots.advance({row: torch.randn(1, 3) for row in rows})
        (_, first), (given, second), (last, _) = part.states[-3:]
        assert given is first, rows
        assert last is second


def test_rows_at_one_place_have_one_position() -> None:
    part = Part()
    slots = Slots(part.init_state, part.step)
    for _ in range(3):
        slots.advance({row: torch.randn(2, 3) for row in (4, 7)})
    assert [position.dim() for position in part.positions] == [0, 0, 0]
    assert [int(position) for position in part.positions] == [0, 2, 4]


def test_rows_that_are_given_more_go_on_when_the_others_are_done() -> None:
    part = Part()
    slots = Slots(part.init_state, part.step)
    pieces = {0: torch.randn(1, 3), 1: torch.randn(5, 3), 2: torch.randn(2, 3)}
    found = slots.advance(pieces)
    assert part.batches == [3, 2, 1]
    for row, sizes in {0: [1], 1: [1, 1, 3], 2: [1, 1]}.items():
        torch.testing.assert_close(found[row], alone(part, pieces[row], sizes), atol=1e-6, rtol=1e-6)


def test_the_state_of_a_row_is_what_it_would_be_alone() -> None:
    part = Part()
    slots = Slots(part.init_state, part.step)
    slots.advance({9: torch.randn(2, 3)})
    x_TD = torch.randn(3, 3)
    slots.advance({5: x_TD, 9: torch.randn(3, 3)})
    slots.advance({9: torch.randn(1, 3)})
    expected = part.step(x_TD[None], part.init_state(1))[1]
    for found, wanted in zip(slots.state(5), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    with pytest.raises(ValueError, match="not in list"):
        slots.state(6)


def test_what_is_kept_grows_with_rows_and_not_with_steps() -> None:
    part = Part()
    slots = Slots(part.init_state, part.step)

    def kept() -> int:
        return sum(kept.tensor.untyped_storage().nbytes() for kept in slots._kept)

    slots.advance({row: torch.randn(1, 3) for row in range(4)})
    four = kept()
    for step in range(100):
        slots.advance({step % 4: torch.randn(1, 3), (step + 1) % 4: torch.randn(1, 3)})
    assert kept() == four > 0
    for row in range(4):
        slots.end(row)
    assert kept() == 0
    slots.end(2)
    assert slots.rows == []


class WritesOver(Part):
    """Keeps its state in the tensor that it was given, moved by one place."""

    def init_state(self, batch_size: int) -> State:
        return (torch.zeros(batch_size, 4),)

    def step(self, x_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        (last_B4,) = state
        moved = torch.cat([last_B4[:, 1:], x_BTD.sum((1, 2))[:, None]], dim=1)
        last_B4.copy_(moved)
        return last_B4.sum(1).expand(x_BTD.shape[1], -1).T[..., None].clone(), (last_B4,)


def test_a_state_that_is_written_where_it_stands_stays_there() -> None:
    part = WritesOver()
    slots = Slots(part.init_state, part.step)
    pieces = torch.randn(6, 3, 1, 3)
    found = [
        slots.advance({row: piece[row] for row in range(1 + step % 3)}) for step, piece in enumerate(pieces)
    ]
    for row in range(3):
        own = [(step, piece[row]) for step, piece in enumerate(pieces) if row < 1 + step % 3]
        expected = alone(part, torch.cat([piece for _, piece in own]), [1] * len(own))
        assert torch.equal(torch.cat([found[step][row] for step, _ in own]), expected)
