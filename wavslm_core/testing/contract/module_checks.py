"""What holds for everything with weights: they are trained, saved and laid out; those of parts of a model are
packed and exported, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wavslm_core.model.weight_files import WEIGHTS_FILE, read_weights
from wavslm_core.model.weights import load_state, write_weights
from wavslm_core.parts.packing import packed_copy
from wavslm_core.testing.contract.config_checks import ConfigChecks, PartChecks
from wavslm_core.testing.contract.subject import TOLERANCE, generator
from wavslm_core.testing.gpu import gpu

CPU = torch.device("cpu")
BF16_ERROR = 0.1
"""Largest error of a bf16 output relative to its norm; rounding of 2⁻⁸ through a few layers stays below."""


class Call(nn.Module):
    """One method of a part as a module."""

    def __init__(self, part: nn.Module, method: str) -> None:
        super().__init__()
        self.part, self.method = part, method

    def forward(self, *args: Tensor) -> Tensor:
        result: Tensor = getattr(self.part, self.method)(*args)
        return result


class ModuleChecks(ConfigChecks):
    def calls(self) -> Mapping[str, tuple[Tensor, ...]]:
        """Return method → arguments of everything that computes on whole sequences and returns a tensor."""
        raise NotImplementedError

    def training_loss(self, part: Any) -> Tensor:
        """Return a loss that everything trained takes part in."""
        outputs = [output for output in self.outputs(part).values() if output.is_floating_point()]
        return sum((projected(output) for output in outputs), torch.zeros(()))

    def outputs(self, part: Any, *, device: torch.device = CPU) -> dict[str, Tensor]:
        calls = {method: [arg.to(device) for arg in args] for method, args in self.calls().items()}
        return {method: getattr(part, method)(*args) for method, args in calls.items()}

    def compare(self, given: Any, expected: Any, found: str, rule: str, tolerance: float = 0.0) -> None:
        """Require that two parts compute the same."""
        with torch.no_grad():
            pairs = zip(self.outputs(given).items(), self.outputs(expected).values(), strict=True)
            for (method, given_output), expected_output in pairs:
                self.require_same(
                    given_output, expected_output, f"{method}() {found}", rule, tolerance=tolerance
                )

    def test_inference_is_deterministic(self) -> None:
        part = self.part()
        before = {key: value.clone() for key, value in part.state_dict().items()}
        self.compare(part, part, "gave two results for one input", "inference is deterministic")
        changed = [key for key, value in part.state_dict().items() if not torch.equal(value, before[key])]
        self.require(
            not changed, f"inference changed {', '.join(changed)}", "only training changes what is saved"
        )
        if getattr(self.subject.config, "dropout", 0.0):
            first, second = (self.outputs(part.train()) for _ in range(2))
            same = [
                key
                for key, value in first.items()
                if torch.equal(value.nan_to_num(), second[key].nan_to_num())
            ]
            self.require(not same, f"{', '.join(same)} drop nothing in training", "`dropout` is for training")

    def test_gradients_reach_every_parameter(self) -> None:
        part = self.part().train()
        if not learns(part):
            pytest.skip("it has no parameters")
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.training_loss(part).backward()
        exempt = self.subject.no_gradient
        parameters = {name: value for name, value in part.named_parameters() if value.requires_grad}
        stale = [pattern for pattern in exempt if not any(fnmatch(name, pattern) for name in parameters)]
        self.require(not stale, f"no parameter matches {', '.join(stale)}", "exemptions name parameters")
        reached = {name for name, value in parameters.items() if value.grad is not None and value.grad.any()}
        spared = {name for name in parameters if any(fnmatch(name, pattern) for pattern in exempt)}
        self.require(
            not reached & spared,
            f"{', '.join(sorted(reached & spared))} are exempt, but gradients reach them",
            "an exemption names what training leaves alone",
        )
        unreached = sorted(set(parameters) - reached - spared)
        self.require(
            not unreached,
            f"no gradient reaches {', '.join(unreached)}",
            "training reaches every parameter; name those it may leave alone, and why, in `no_gradient`",
        )
        bad = [
            name for name, value in parameters.items() if value.grad is not None and not finite(value.grad)
        ]
        self.require(not bad, f"the gradient of {', '.join(bad)} is not finite", "gradients are finite")

    def test_weights_survive_saving(self, tmp_path: Path) -> None:
        part, other = self.part(), self.part(seed=1)
        write_weights(tmp_path, part.state_dict())
        load_state(other, read_weights(tmp_path / WEIGHTS_FILE), source=str(tmp_path))
        self.compare(
            other.eval(),
            part,
            "of a part with loaded weights differs from the saved one",
            "the state dict, through a safetensors file, holds all that a part has learnt",
        )

    def test_meta_device(self) -> None:
        with torch.device("meta"), self.attempt("building it on the meta device", "plans build parts there"):
            planned = self.subject.registry.build(self.subject.config)
        built = self.subject.registry.build(self.subject.config)
        shapes = [
            {key: (list(value.shape), value.dtype) for key, value in part.state_dict().items()}
            for part in (planned, built)
        ]
        self.require(
            shapes[0] == shapes[1],
            f"on the meta device it has {set(shapes[0]) ^ set(shapes[1]) or 'other shapes'}",
            "a part built on the meta device has the keys and shapes of a real one",
        )
        real = [key for key, value in tensors(planned) if value.device.type != "meta"]
        self.require(
            not real,
            f"built on the meta device, {', '.join(real)} take memory",
            "parts are built on the device of torch.device(...) contexts, so that plans cost nothing",
        )

    def test_gpu(self) -> None:
        rule = (
            "a part that was moved, and all it makes on the way, stays on the device of its weights and input"
        )
        part = self.part()
        with gpu() as device, self.attempt("inference on a GPU", rule):
            outputs = self.outputs(part.to(device), device=device)
            places = {method: output.device for method, output in outputs.items()}
        for method, place in places.items():
            self.require(place == device, f"on {device}, {method}() gave a tensor on {place}", rule)

    def test_bf16_autocast(self) -> None:
        part = self.part()
        with torch.no_grad(), self.attempt("inference in bf16", "parts run in bf16 autocast"):
            expected = self.outputs(part)
            with torch.autocast("cpu", torch.bfloat16):
                given = self.outputs(part)
        for method, output in given.items():
            if not output.is_floating_point():
                continue
            rule = f"in bf16 autocast results are finite and within {BF16_ERROR:.0%} of fp32"
            known = expected[method].isfinite()
            self.require(torch.equal(output.isfinite(), known), f"{method}() is not finite", rule)
            error = (output[known].float() - expected[method][known]).norm() / expected[method][known].norm()
            self.require(float(error) <= BF16_ERROR, f"{method}() is off by {float(error):.1%}", rule)
        if not learns(part):
            return
        part.train()
        rule = "parts train in bf16 autocast"
        with torch.enable_grad(), torch.random.fork_rng(devices=[]), self.attempt("training in bf16", rule):
            torch.manual_seed(0)
            with torch.autocast("cpu", torch.bfloat16):
                loss = self.training_loss(part)
            loss.backward()
        gradients = [value.grad for value in part.parameters() if value.grad is not None]
        self.require(
            finite(loss) and all(map(finite, gradients)), "a training step in bf16 is not finite", rule
        )


class PartModuleChecks(ModuleChecks, PartChecks):
    """What holds for parts of a model besides."""

    def test_packed_copy(self) -> None:
        rule = "packing for inference in fp32 changes nothing but speed; see `wavslm_core.parts.packing`"
        with self.attempt("a packed copy", rule):
            packed = packed_copy(self.part(), weights="fp32", few=0)
            self.compare(packed, self.part(), "of a packed copy differs", rule, tolerance=TOLERANCE)

    def test_export(self) -> None:
        if self.subject.no_export is not None:
            pytest.skip(f"torch.export: {self.subject.no_export}")
        part = self.part()
        for method, args in self.calls().items():
            call = Call(part, method).eval()
            rule = "whole sequences can be exported; say why not in `no_export`"
            with torch.no_grad(), self.attempt(f"torch.export of {method}()", rule):
                exported = torch.export.export(call, args).module()
                self.require_same(exported(*args), call(*args), f"{method}() exported differs", rule)


def tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def learns(part: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in part.parameters())


def finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


def projected(output: Tensor) -> Tensor:
    """Return a random combination: a plain sum would vanish behind a normalisation."""
    weights = torch.randn(output.shape, generator=generator(7))
    return (output.nan_to_num() * weights).sum()
