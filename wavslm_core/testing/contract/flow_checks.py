"""What holds for every flow: causality, steps, constant states, and independence of batch and padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from wavslm_core.errors import StreamingError
from wavslm_core.testing.contract.flow import Flow, state_bytes
from wavslm_core.testing.contract.module_checks import ModuleChecks

CHUNKINGS = {"1": (1,), "2": (2,), "5": (5,), "1, 3, 2 and 5": (1, 3, 2, 5)}
MOST_LAYERS = 8
"""Windows after which nothing is left of a change, as each layer passes it on by one."""
LEAK = 1e-5
"""Relative change from which on an output counts as having seen another place; FFTs spread rounding."""


class FlowChecks(ModuleChecks):
    def flows(self, part: Any) -> list[Flow]:
        raise NotImplementedError

    @property
    def facts(self) -> Any:
        return self.subject.config.facts()

    @torch.no_grad()
    def test_causality(self) -> None:
        if not self.facts.causal:
            pytest.skip("its facts say causal=False")
        for flow in self.flows(self.part()):
            x = flow.input(2)
            expected = flow.whole(x, None)
            for chunk in (1, flow.chunks // 2, flow.chunks - 1):
                changed = x.clone()
                changed[:, chunk * flow.chunk_in :] = flow.input(2, seed=1)[:, chunk * flow.chunk_in :]
                given = flow.whole(changed, None)
                end = max(0, chunk * flow.chunk_out - flow.delay)
                self.require_same(
                    given[:, :end],
                    expected[:, :end],
                    f"{flow.name} looks ahead: a change from chunk {chunk} on reaches what is before",
                    "in a causal part, a change after a chunk's end changes nothing before it",
                    tolerance=LEAK,
                )
                self.require(
                    not torch.equal(given[:, end:], expected[:, end:]),
                    f"{flow.name} ignores its input: a change from chunk {chunk} on changes nothing",
                    "the output depends on the input",
                )

    @torch.no_grad()
    def test_window(self) -> None:
        for flow in self.flows(self.part()):
            if flow.window_chunks is None:
                pytest.skip("its facts state no window")
            window = flow.window_chunks
            x = flow.input(2, chunks=(MOST_LAYERS + 1) * window)
            changed = x.clone()
            changed[:, : flow.chunk_in] = flow.input(2, chunks=1, seed=1)
            given, expected = flow.whole(changed, None), flow.whole(x, None)
            last = slice((window - 1) * flow.chunk_out, window * flow.chunk_out)
            self.require(
                not torch.equal(given[:, last], expected[:, last]),
                f"{flow.name} does not see as far back as the {window} chunks of its window",
                "a layer looks at the whole window that the facts state",
            )
            far = slice(MOST_LAYERS * window * flow.chunk_out, None)
            self.require_same(
                given[:, far],
                expected[:, far],
                f"{flow.name} sees beyond its window: a change reaches what is {MOST_LAYERS} windows later",
                f"a layer looks no further than its window (a config for tests has {MOST_LAYERS} layers at most)",
                tolerance=LEAK,
            )

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

    def _aligned(self, flow: Flow) -> str:
        return f", with flush() and without the first {flow.delay} {flow.places}" if flow.flush else ""

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

    @torch.no_grad()
    def test_batch_invariance(self) -> None:
        for flow in self.flows(self.part()):
            x = flow.input(3)
            batch = flow.whole(x, None)
            for row in range(3):
                self.require_same(
                    flow.whole(x[row : row + 1], None),
                    batch[row : row + 1],
                    f"{flow.name} of item {row} alone differs from the same in a batch",
                    "a batch of one equals a batch of many",
                )

    @torch.no_grad()
    def test_padding_invariance(self) -> None:
        for flow in self.flows(self.part()):
            x = flow.input(3)
            size = x.shape[1]
            odd = [size, size * 2 // 3 + flow.frame_in, size // 3 + 2 * flow.frame_in + flow.frame_in // 3]
            lengths = torch.tensor([length // flow.frame_in * flow.frame_in for length in odd])
            if flow.places == "samples":
                lengths = torch.tensor(odd)
            valid = flow.lengths_out(lengths).tolist()
            for seed in (1, 2):
                padded, rubbish = x.clone(), flow.input(3, seed=seed)
                for row, length in enumerate(lengths.tolist()):
                    padded[row, length:] = (
                        5 * rubbish[row, length:] if x.is_floating_point() else rubbish[row, length:]
                    )
                batch = flow.whole(padded, lengths)
                for row, length in enumerate(lengths.tolist()):
                    self.require_same(
                        batch[row : row + 1, : valid[row]],
                        flow.whole(x[row : row + 1, :length], None)[:, : valid[row]],
                        f"{flow.name} of an item of {length} {flow.places} differs when padded to {size}",
                        "with `lengths`, padding never changes a valid result",
                    )


def _shapes(kinds: list[Any]) -> str:
    return ", ".join(f"{list(shape)} {dtype}" for shape, dtype in kinds)
