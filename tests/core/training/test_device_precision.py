"""bf16 is used where it is right and nowhere else, whatever the hardware claims; only training uses it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.core.training import tiny_job
from wavslm_core.training import device as training_device
from wavslm_core.training.device import ChosenPrecision, choose_precision, multiplies_bf16
from wavslm_core.training.guards import TrainingError
from wavslm_core.training.precision_proof import Deviation, PrecisionProof, _sample, autocast, prove

CPU = torch.device("cpu")


class WrongKernel(nn.Linear):
    """A product whose values have changed places under autocast, as those of a broken kernel have."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y.roll(1, dims=-1) if torch.is_autocast_enabled("cpu") else y


class Cancels(nn.Module):
    """What bf16 cannot do though every product is right: a small difference of large numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 500) - 500


class _WrongBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.wrong = torch.is_autocast_enabled("cpu")
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].roll(1, dims=-1) if ctx.wrong else gradients[0]


class WrongBackward(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _WrongBackward.apply(x)
        return y


class Rounds(nn.Module):
    """Codes of one bit, through which gradients pass: rounding turns some of them over."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (x.sign() - x).detach()


class Counts(nn.Module):
    """Has a buffer that learns."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.mean.copy_(x.detach().mean())
        return x


class MovesOn(nn.Module):
    """A codebook of moving averages, bound anew at each pass: the next pass goes through another part."""

    centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(64))

    def forward(self, x: Tensor) -> Tensor:
        y = x - self.centre
        self.centre = 0.5 * self.centre + 5 * x.detach().float().mean(0)
        return y


def proof_of(*inner: nn.Module, seed: int = 0) -> PrecisionProof:
    torch.manual_seed(seed)
    parts = {
        "first": nn.Sequential(nn.Linear(32, 64), nn.GELU()),
        "second": nn.Sequential(nn.Linear(64, 64), *inner, nn.LayerNorm(64)),
        "third": nn.Linear(64, 16),
    }
    x, wanted = torch.randn(256, 32), torch.randn(256, 16)

    def loss() -> Tensor:
        torch.manual_seed(1)
        y = x
        for part in parts.values():
            y = part(y)
        return (y - wanted).square().mean()

    return prove(loss, parts, device=CPU)


@pytest.mark.parametrize("inner", [nn.GELU, Rounds, Counts, MovesOn, lambda: nn.Dropout(0.5)])
def test_what_rounding_explains_is_right(inner: Any) -> None:
    proof = proof_of(inner())
    assert proof.culprit is None
    of_parts = [(part, of) for part in ("first", "second", "third") for of in ("output", "gradient")]
    assert {(row.what, row.of) for row in proof.rows} == {*of_parts, ("loss", "loss")}
    # It really was computed in two precisions, twice.
    assert all(0 < row.error < 0.5 and 0 < row.rounding < 0.5 for row in proof.rows if row.of != "loss")


@pytest.mark.parametrize("inner", [lambda: WrongKernel(64, 64), Cancels])
def test_the_part_that_is_wrong_in_bf16_is_named(inner: Any) -> None:
    culprit = proof_of(inner()).culprit
    assert culprit is not None
    assert (culprit.what, culprit.of) == ("second.1", "output")
    assert culprit.error > 0.2
    assert culprit.rounding < 0.02


def test_a_wrong_backward_pass_is_named_too() -> None:
    culprit = proof_of(WrongBackward()).culprit
    assert culprit is not None
    # The last part on the way back whose gradient is right is the third: the second's layer comes next.
    assert (culprit.what, culprit.of) == ("second", "gradient")


def test_a_part_that_gives_no_number_in_bf16_is_wrong() -> None:
    class NotANumber(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.nan if torch.is_autocast_enabled("cpu") else x

    culprit = proof_of(NotANumber()).culprit
    assert culprit is not None
    assert culprit.what == "second.1"


def test_a_proof_leaves_no_trace() -> None:
    counts = Counts()
    proof_of(counts)
    assert float(counts.mean) == 0.0
    assert not counts._forward_hooks


def test_a_wrong_call_is_not_hidden_by_a_later_one_that_is_right() -> None:
    wrong, right = Deviation("part", "output", 0.10, 0.005), Deviation("part", "output", 0.20, 0.08)
    assert wrong.wrong
    assert not right.wrong
    assert wrong.worse_of(right) is wrong
    assert right.worse_of(wrong) is wrong
    assert Deviation("part", "output", math.nan, 0.0).worse_of(right).wrong


def test_samples_pass_through_all_channels() -> None:
    output = torch.arange(1024).float().expand(4096, 1024)
    assert len(_sample(output).unique()) > 900


def test_a_batch_that_fits_in_bf16_alone_is_trained_without_a_proof(native: None) -> None:
    def too_large() -> Iterator[PrecisionProof]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    chosen = choose_precision("auto", CPU, proofs=too_large)
    assert (chosen.trained, chosen.why[:10]) == ("bf16", "not proven")


def proofs_that(ok: bool) -> Any:
    return lambda: iter([proof_of() if ok else proof_of(WrongKernel(64, 64))])


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device claims to multiply bf16."""
    monkeypatch.setattr(training_device, "multiplies_bf16", lambda device: True)


@pytest.mark.usefixtures("native")
def test_auto_takes_what_was_proven(caplog: pytest.LogCaptureFixture) -> None:
    chosen = choose_precision("auto", CPU, proofs=proofs_that(True))
    assert (chosen.trained, chosen.validated) == ("bf16", "fp32")
    assert "at most" in chosen.why
    assert {row["what"] for row in chosen.proof} == {"first", "second", "third", "loss"}
    with caplog.at_level(logging.WARNING):
        chosen = choose_precision("auto", CPU, proofs=proofs_that(False))
    assert chosen.trained == "fp32"
    assert "bf16 is wrong here: the output of second.1 is off by" in chosen.why
    assert "training in fp32 instead" in caplog.text


def test_what_was_asked_for_and_is_wrong_is_refused() -> None:
    assert choose_precision("bf16", CPU, proofs=proofs_that(True)).trained == "bf16"
    with pytest.raises(TrainingError, match=r"bf16 was asked for, but the output of second\.1 .*`auto`"):
        choose_precision("bf16", CPU, proofs=proofs_that(False))


def nothing() -> Iterator[PrecisionProof]:
    raise AssertionError("nothing was to be proven")


def test_fp32_needs_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_precision("fp32", CPU, proofs=nothing).trained == "fp32"
    monkeypatch.setattr(training_device, "multiplies_bf16", lambda device: False)
    assert choose_precision("auto", CPU, proofs=nothing).why == "this device does not multiply bf16"


@pytest.mark.usefixtures("native")
def test_a_run_goes_on_as_it_began_where_the_same_kernels_run() -> None:
    here = choose_precision("auto", CPU, proofs=proofs_that(True))
    assert choose_precision("auto", CPU, proofs=nothing, known=here) is here
    elsewhere = ChosenPrecision("bf16", "as right as rounding allows", "torch 2.6 on cpu x86_64 AVX2")
    assert choose_precision("auto", CPU, proofs=proofs_that(False), known=elsewhere).trained == "fp32"


def test_autocast_is_for_bf16_alone() -> None:
    x = torch.ones(2, 2)
    with autocast("fp32", CPU):
        assert (x @ x).dtype == torch.float32
    with autocast("bf16", CPU):
        assert (x @ x).dtype == torch.bfloat16
    assert multiplies_bf16(torch.device("meta")) is False


def test_only_training_steps_are_computed_in_bf16(tmp_path: Path) -> None:
    seen: dict[str, set[bool]] = {"validate": set(), "show": set(), "loss": set()}

    class Watched(tiny_job.TinyTask):  # type: ignore[name-defined, misc]
        def loss(self, *args: Any) -> Any:
            seen["loss"].add(torch.is_autocast_enabled("cpu"))
            return super().loss(*args)

        def validate(self) -> Any:
            seen["validate"].add(torch.is_autocast_enabled("cpu"))
            return super().validate()

        def show(self, *args: Any) -> None:
            seen["show"].add(torch.is_autocast_enabled("cpu"))

    config = tiny_job.TinyConfig(precision="bf16")
    state = tiny_job.fit(Watched(config), config, tiny_job.context_for(tmp_path), stage="tiny")
    assert seen["validate"] == seen["show"] == {False}
    assert True in seen["loss"]
    found = state.results()["precision"]
    assert (found["trained"], found["validated"]) == ("bf16", "fp32")
    assert {row["what"] for row in found["proof"]} == {"net", "scale", "loss"}


def test_a_part_with_a_wrong_kernel_trains_in_fp32_as_if_it_had_been_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training_device, "multiplies_bf16", lambda device: True)

    class Wrong(tiny_job.TinyTask):  # type: ignore[name-defined, misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            torch.manual_seed(5)
            self.scale = WrongKernel(3, 3)

    weights = {}
    for asked in ("auto", "fp32"):
        config = tiny_job.TinyConfig(precision=asked)
        task = Wrong(config)
        state = tiny_job.fit(task, config, tiny_job.context_for(tmp_path / asked), stage="tiny")
        weights[asked] = task.scale.state_dict()
        assert state.precision.trained == "fp32"
    assert torch.equal(weights["auto"]["weight"], weights["fp32"]["weight"])
    assert "training in fp32 (bf16 is wrong here: the output of scale" in capsys.readouterr().err
    config = tiny_job.TinyConfig(precision="bf16")
    with pytest.raises(TrainingError, match="the output of scale is off by"):
        tiny_job.fit(Wrong(config), config, tiny_job.context_for(tmp_path / "asked"), stage="tiny")
