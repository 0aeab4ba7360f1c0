"""What holds for every flow over whole sequences: causality, windows, independence of batch and padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from wavslm_core.testing.contract.flow import Flow
from wavslm_core.testing.contract.module_checks import PartModuleChecks, projected

MOST_LAYERS = 8
"""Windows after which nothing is left of a change, as each layer passes it on by one."""
LEAK = 1e-5
"""Relative change from which on an output counts as having seen another place; FFTs spread rounding."""


class SequenceChecks(PartModuleChecks):
    def flows(self, part: Any) -> list[Flow]:
        raise NotImplementedError

    @property
    def facts(self) -> Any:
        return self.subject.facts()

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
                f"a layer looks no further than its window; a config for tests has {MOST_LAYERS} at most",
                tolerance=LEAK,
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
        part = self.part()
        for flow in self.flows(part):
            x = flow.input(4)
            size, frame = x.shape[1], flow.frame_in
            odd = [size, size * 2 // 3 + frame, size // 3 + 2 * frame + frame // 3, frame]
            lengths = torch.tensor([length // frame * frame for length in odd])
            if flow.places == "samples":
                lengths = torch.tensor(odd)
            valid = flow.lengths_out(lengths).tolist()
            for seed in (1, 2):
                rubbish = flow.input(4, seed=seed)
                if x.is_floating_point():
                    rubbish *= 5 if seed == 1 else torch.nan
                padded = x.clone()
                for row, length in enumerate(lengths.tolist()):
                    padded[row, length:] = rubbish[row, length:]
                batch = flow.whole(padded, lengths)
                for row, length in enumerate(lengths.tolist()):
                    self.require_same(
                        batch[row : row + 1, : valid[row]],
                        flow.whole(x[row : row + 1, :length], None)[:, : valid[row]],
                        f"{flow.name} of an item of {length} {flow.places} differs when padded to {size}",
                        "with `lengths`, padding never changes a valid result",
                    )
            self._require_gradients_without_padding(part, flow)

    @torch.enable_grad()
    def _require_gradients_without_padding(self, part: nn.Module, flow: Flow) -> None:
        trained = [value for value in part.parameters() if value.requires_grad]
        x, length = flow.input(1), torch.tensor([flow.chunks * 2 // 3 * flow.chunk_in])
        padded = x.clone()
        padded[:, length:] = flow.input(1, seed=1)[:, length:]
        valid = int(flow.lengths_out(length))
        outputs = flow.whole(x[:, :length], None)[:, :valid], flow.whole(padded, length)[:, :valid]
        if not outputs[0].requires_grad:
            return
        alone, given = (
            torch.autograd.grad(projected(output), trained, materialize_grads=True) for output in outputs
        )
        self.require_same(
            torch.cat([gradient.flatten() for gradient in given]),
            torch.cat([gradient.flatten() for gradient in alone]),
            f"the gradients of {flow.name} differ when {flow.places} are padded",
            "padding teaches nothing",
            tolerance=1e-3,
        )
