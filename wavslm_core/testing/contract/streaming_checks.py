"""What holds for every flow in steps: they equal the whole, states keep their size, streams do not meet."""

from dataclasses import replace
from itertools import cycle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wavslm_core.errors import StreamingError
from wavslm_core.parts.interfaces import State
from wavslm_core.parts.packing import packed_copy
from wavslm_core.parts.slots import Slots
from wavslm_core.testing.contract.flow import Flow, state_bytes
from wavslm_core.testing.contract.sequence_checks import SequenceChecks
from wavslm_core.testing.gpu import gpu, recording

CHUNKINGS = {"1": (1,), "2": (2,), "5": (5,), "1, 3, 2 and 5": (1, 3, 2, 5)}


class Step(nn.Module):
    """A step of a flow as a module."""

    def __init__(self, part: nn.Module, flow: Flow) -> None:
        super().__init__()
        self.part, self.step = part, flow.step

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self.step(x, state)


class FlowChecks(SequenceChecks):
    """What holds for a flow, whole and in steps."""

    @torch.no_grad()
    def test_step_equals_forward(self) -> None:
        for flow in self.flows(self.part()):
            if not self.facts.streams:
                self._refuses(flow)
                continue
            for batch in (1, 3):
                x = flow.input(batch)
                expected = flow.whole(x, None)
                for chunks, sizes in CHUNKINGS.items():
                    self.require_same(
                        flow.streamed(x, sizes),
                        expected,
                        f"{flow.name} in steps of {chunks} chunks is not {flow.name} of the whole",
                        f"steps, put together{self._aligned(flow)}, equal the whole",
                    )

    @torch.no_grad()
    def test_packed_steps(self) -> None:
        if not self.facts.streams:
            pytest.skip("its facts say streams=False")
        rule = "packing for inference in fp32 changes nothing but speed; see `wavslm_core.parts.packing`"
        with self.attempt("a step of a packed copy", rule):
            packed = packed_copy(self.part(), weights="fp32", few=0)
            for flow, plain in zip(self.flows(packed), self.flows(self.part()), strict=True):
                x = flow.input(2)
                self.require_same(
                    flow.streamed(x, (1,)),
                    plain.streamed(x, (1,)),
                    f"{flow.name} of a packed copy, in steps, is not that of the original",
                    rule,
                )

    @torch.no_grad()
    def test_exported_steps(self) -> None:
        if not self.facts.streams:
            pytest.skip("its facts say streams=False")
        if self.subject.no_export is not None:
            pytest.skip(f"torch.export: {self.subject.no_export}")
        rule = "a step can be exported: one graph for all positions, state in and state out"
        part = self.part()
        for flow in self.flows(part):
            x = flow.input(2)
            arguments = (x[:, : flow.chunk_in], flow.init_state(2))
            with self.attempt(f"torch.export of a step of {flow.name}", rule):
                step = torch.export.export(Step(part, flow).eval(), arguments).module()
                given = replace(flow, step=step).streamed(x, (1,))
            self.require_same(
                given, flow.streamed(x, (1,)), f"an exported step of {flow.name} is not that step", rule
            )

    @torch.no_grad()
    def test_steps_on_a_gpu(self) -> None:
        if not self.facts.streams:
            pytest.skip("its facts say streams=False")
        rule = (
            "a stream stays on the device of its weights and input; only positions, numbers without a "
            "dimension, lie on the CPU"
        )
        part = self.part()
        with gpu() as device:
            for flow in self.flows(part.to(device)):
                x, slots = flow.input(2, chunks=3).to(device), Slots(flow.init_state, flow.step)
                first, rest = x.split([flow.chunk_in, 2 * flow.chunk_in], dim=1)
                lengths = torch.tensor([3, 2], device=device) * flow.chunk_in
                found: dict[str, Tensor] = {}
                with self.attempt(f"{flow.name} on a GPU", rule):
                    found["with lengths"] = flow.whole(x, lengths)
                    found["in a step"], state = flow.step(first, flow.init_state(2))
                    found["in steps"], state = flow.step(rest, state)
                    if flow.flush is not None:
                        found["in flush()"] = flow.flush(state)
                    slots.advance({0: first[0]})
                    found["of rows"] = slots.advance({1: first[0], 0: first[1]})[0]
                places = {f"{flow.name} {how} gave a tensor": y.device for how, y in found.items()}
                for tensor in state:
                    what = f"the state of {flow.name} holds {[*tensor.shape]} {tensor.dtype}"
                    # Any other place than that of positions is an odd one.
                    odd = tensor.dim() or tensor.device.type != "cpu"
                    places[what] = tensor.device if odd else device
                for what, place in places.items():
                    self.require(place == device, f"on {device}, {what} on {place}", rule)

    @torch.no_grad()
    def test_steps_can_be_recorded(self) -> None:
        if not self.facts.streams:
            pytest.skip("its facts say streams=False")
        if self.subject.no_export is not None:
            pytest.skip(f"torch.export: {self.subject.no_export}")
        rule = (
            "an exported step can be recorded as a CUDA graph: with all of its state on the GPU, it reads "
            "nothing from there and takes no tensor from the CPU"
        )
        part = self.part()
        with gpu() as device:
            for flow in self.flows(part.to(device)):
                x = flow.input(2, chunks=1).to(device)
                state = tuple(tensor.to(device) for tensor in flow.init_state(2))
                with self.attempt(f"recording a step of {flow.name}", rule), recording():
                    y, left = flow.step(x, state)
                away = [[*tensor.shape] for tensor in (y, *left) if tensor.device != device]
                self.require(not away, f"recorded, {flow.name} gave {away} on the CPU", rule)

    def _aligned(self, flow: Flow) -> str:
        return f", with flush() and without the first {flow.delay} samples" if flow.flush else ""

    def _refuses(self, flow: Flow) -> None:
        try:
            flow.init_state(1)
        except StreamingError:
            return
        self.require(
            False,
            f"its facts say streams=False, but {flow.name} gives a state",
            "a part that cannot stream raises `no_streaming()`",
        )

    @torch.no_grad()
    def test_step_gives_whole_chunks(self) -> None:
        if not self.facts.streams:
            pytest.skip("its facts say streams=False")
        for flow in self.flows(self.part()):
            state = flow.init_state(2)
            for chunks in (1, 3):
                output, state = flow.step(flow.input(2, chunks=chunks), state)
                self.require(
                    output.shape[:2] == (2, chunks * flow.chunk_out),
                    f"a step of {chunks} chunks, {chunks * flow.chunk_in} {flow.places}, "
                    f"gave {list(output.shape)}",
                    f"a step gives (B, {flow.chunk_out}) places for each chunk, at once",
                )
            if flow.flush is not None:
                left = flow.flush(state)
                self.require(
                    left.shape == (2, flow.delay),
                    f"flush() gave {list(left.shape)}",
                    f"flush() gives the (B, {flow.delay}) samples that the facts say are delayed",
                )

    @torch.no_grad()
    def test_state_is_constant(self) -> None:
        if not self.facts.streams:
            pytest.skip("its facts say streams=False")
        for flow in self.flows(self.part()):
            x, state = flow.input(2), flow.init_state(2)
            self.require(
                isinstance(state, tuple) and all(isinstance(value, Tensor) for value in state),
                f"init_state() for {flow.name} gave {type(state).__name__}",
                "a state is a flat tuple of tensors",
            )
            kinds = [(value.shape, value.dtype) for value in state]
            size = 0
            for index, piece in enumerate(x.split(flow.chunk_in, dim=1)):
                state = flow.step(piece.clone(), state)[1]
                given = [(value.shape, value.dtype) for value in state]
                self.require(
                    given == kinds,
                    f"step {index} of {flow.name} made a state of {_shapes(given)}; it was {_shapes(kinds)}",
                    "the shapes and dtypes of a state never change",
                )
                # The first step may leave the state that was made for it for one that it owns.
                size = state_bytes(state) if index == 1 else size
                self.require(
                    index < 2 or state_bytes(state) <= size,
                    f"the state of {flow.name} grew from {size} to {state_bytes(state)} bytes",
                    "the memory of a state is constant",
                )

    @torch.no_grad()
    def test_rows_come_and_go(self) -> None:
        if not self.facts.streams:
            pytest.skip("its facts say streams=False")
        rule = (
            "a step advances rows that are at different places of their streams, whose positions it is given "
            "as (B,), as each by itself; see `wavslm_core.parts.slots`"
        )
        for flow in self.flows(self.part()):
            # Which rows act, and how many chunks they take: some begin late, rest, or take more at once.
            acts = cycle([{0: 1}, {1: 2, 0: 1}, {1: 1, 2: 1}, {0: 1, 1: 1, 2: 1}, {2: 3, 0: 1}, {1: 1}])
            inputs = {row: flow.input(1, seed=row)[0] for row in range(3)}
            given, places = {row: list[Tensor]() for row in inputs}, dict.fromkeys(inputs, 0)
            slots = Slots(flow.init_state, flow.step)
            with self.attempt(f"{flow.name} of rows at different places", rule):
                while min(places.values()) + 3 * flow.chunk_in <= len(inputs[0]):
                    pieces = {}
                    for row, chunks in next(acts).items():
                        start, places[row] = places[row], places[row] + chunks * flow.chunk_in
                        pieces[row] = inputs[row][start : places[row]].clone()
                    for row, output in slots.advance({row: x for row, x in pieces.items() if len(x)}).items():
                        given[row].append(output.clone())
            for row, outputs in given.items():
                found = torch.cat(outputs)[None, flow.delay :]
                self.require_same(
                    found,
                    flow.streamed(inputs[row][None], (1,))[:, : found.shape[1]],
                    f"{flow.name} of a row among others that are elsewhere differs from that row by itself",
                    rule,
                )

    @torch.no_grad()
    def test_streams_do_not_meet(self) -> None:
        if not self.facts.streams:
            pytest.skip("its facts say streams=False")
        for flow in self.flows(self.part()):
            inputs = [flow.input(batch, chunks=8, seed=batch) for batch in (3, 1, 2)]
            expected = [flow.streamed(x, (1,)) for x in inputs]
            states = [flow.init_state(x.shape[0]) for x in inputs]
            outputs: list[list[Tensor]] = [[] for _ in inputs]
            for start in range(0, 8 * flow.chunk_in, flow.chunk_in):
                for stream, x in enumerate(inputs):
                    piece = x[:, start : start + flow.chunk_in].clone()
                    output, states[stream] = flow.step(piece, states[stream])
                    outputs[stream].append(output)
            for stream, pieces in enumerate(outputs):
                given = torch.cat(pieces, dim=1)[:, flow.delay :]
                self.require_same(
                    given,
                    expected[stream][:, : given.shape[1]],
                    f"{flow.name} of three streams in turn differs from each by itself",
                    "all that a stream remembers is in its state, whatever the batch sizes",
                )


def _shapes(kinds: list[Any]) -> str:
    return ", ".join(f"{list(shape)} {dtype}" for shape, dtype in kinds)
