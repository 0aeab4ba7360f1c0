"""The contract of discriminators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wavslm_core.parts.interfaces import Judgement
from wavslm_core.testing.contract.module_checks import CPU, ModuleChecks
from wavslm_core.testing.contract.subject import generator

SAMPLES = 2400
SHORT_SAMPLES = (1, 40, 400)


def noise(rows: int, samples: int, *, seed: int = 0) -> Tensor:
    """Return waveforms (B,S) in [-1, 1]."""
    return torch.rand(rows, samples, generator=generator(seed)) * 2 - 1


class DiscriminatorContract(ModuleChecks):
    def calls(self) -> Mapping[str, tuple[Tensor, ...]]:
        return {"forward": (noise(2, SAMPLES),)}

    def outputs(self, part: Any, *, device: torch.device = CPU) -> dict[str, Tensor]:
        (waveform_BS,) = self.calls()["forward"]
        return {
            f"{what} {number} of forward": value
            for number, judgement in enumerate(part(waveform_BS.to(device)))
            for what, value in _tensors(judgement).items()
        }

    @torch.no_grad()
    def test_judgements(self) -> None:
        part = self.part()
        rule = "waveforms of any length get as many judgements, each of finite scores (B,N) and of maps (B,…)"
        counts = set()
        for samples in (*SHORT_SAMPLES, SAMPLES):
            with self.attempt(f"judging {samples} samples", rule):
                judgements = part(noise(2, samples))
            counts.add(tuple(len(judgement.maps) for judgement in judgements))
            for number, judgement in enumerate(judgements):
                shapes = {what: list(value.shape) for what, value in _tensors(judgement).items()}
                self.require(
                    judgement.scores_BN.ndim == 2
                    and judgement.scores_BN.numel() > 0
                    and {shape[0] for shape in shapes.values()} == {2}
                    and all(bool(value.isfinite().all()) for value in _tensors(judgement).values()),
                    f"judgement {number} of two waveforms of {samples} samples holds {shapes}, or no numbers",
                    rule,
                )
        self.require(
            len(counts) == 1 and all(min(maps) > 0 for maps in counts),
            f"there were judgements with {sorted(counts)} maps",
            f"{rule}, at least one",
        )

    @torch.no_grad()
    def test_rows_are_independent(self) -> None:
        part = self.part()
        pair = noise(2, SAMPLES)
        together = part(pair)
        for row in range(2):
            for number, (one, both) in enumerate(zip(part(pair[row : row + 1]), together, strict=True)):
                for what, value in _tensors(one).items():
                    self.require_same(
                        value,
                        _tensors(both)[what][row : row + 1],
                        f"{what} {number} of a waveform alone differs from those of the same in a batch",
                        "a row is judged by itself",
                    )

    def test_gradients_reach_the_waveform(self) -> None:
        part = self.part().train().requires_grad_(False)
        with torch.enable_grad():
            waveform_BS = noise(1, SAMPLES).requires_grad_()
            for number, judgement in enumerate(part(waveform_BS)):
                for what, value in _tensors(judgement).items():
                    # Of what does not depend on the waveform there is none.
                    loss = value.square().sum() + 0 * waveform_BS.sum()
                    (gradient,) = torch.autograd.grad(loss, waveform_BS, retain_graph=True)
                    self.require(
                        bool(gradient.any()) and bool(gradient.isfinite().all()),
                        f"no finite gradient goes from {what} {number} to the waveform",
                        "what is judged learns from scores and maps while the discriminator rests",
                    )


def _tensors(judgement: Judgement) -> dict[str, Tensor]:
    return {"scores": judgement.scores_BN} | {f"map {n} of": one for n, one in enumerate(judgement.maps)}
