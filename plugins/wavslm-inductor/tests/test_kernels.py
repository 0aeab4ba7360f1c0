"""The operators of `kernels.cpp` are what they stand for, of all shapes, on CPUs of both kinds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wavslm_core.errors import WavslmError
from wavslm_core.machine.timings import FOLDER_VARIABLE
from wavslm_core.parts.packing import Int8Linear
from wavslm_inductor.kernels import added_products, load_kernels
from wavslm_inductor.linears import MOST_INPUTS, CompiledInt8Linear, PackOnce

WITHOUT_DOT_PRODUCTS = """
import sys, torch
from wavslm_inductor import kernels
from wavslm_inductor.linears import CompiledInt8Linear
kernels.FLAGS = (*kernels.FLAGS, "-mno-avx512vnni")
kernels.load_kernels()
weight_NK, bias_N, x = torch.load(sys.argv[1])
torch.save(CompiledInt8Linear(weight_NK, bias_N, gelu=True)(x), sys.argv[2])
"""

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("kernels")]


def rounded(x: Tensor) -> Tensor:
    """Return each row as 256 steps hold it, between its least and largest number and zero, in float64."""
    x = x.double()
    least, most = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    step = (most - least) / 255
    zero = (-least / step).round()
    return ((x / step).round() + zero).clamp(0, 255).sub(zero) * step


def exact(linear: CompiledInt8Linear, weight_NK: Tensor, x: Tensor) -> Tensor:
    """Return a linear of weights and activations that are rounded alike, in float64."""
    scales = linear.scales.double()[:, None]
    return rounded(x) @ ((weight_NK.double() / scales).round() * scales).T


@pytest.mark.parametrize("rows", [(1,), (1, 4), (2, 3), (3, 5, 1)])
@pytest.mark.parametrize(("inputs", "outputs"), [(4, 16), (1024, 1024), (70, 35), (1, 1), (257, 1000)])
def test_int8_linears_of_all_shapes(rows: tuple[int, ...], inputs: int, outputs: int) -> None:
    torch.manual_seed(0)
    weight_NK, x = torch.randn(outputs, inputs), torch.randn(*rows, inputs) * 3 + 1
    linear = CompiledInt8Linear(weight_NK, None, gelu=False)
    expected = exact(linear, weight_NK, x)
    found = linear(x)
    assert found.shape == (*rows, outputs)
    # A number halfway between two steps may be rounded either way in fp32.
    halves = 0.02 * expected.std(correction=0)
    torch.testing.assert_close(found.double(), expected, atol=float(halves) + 1e-3, rtol=1e-4)


def test_int8_linears_are_as_near_as_those_of_torch() -> None:
    """Rows have steps of their own, so that a loud one does not cost a quiet one its last bits."""
    torch.manual_seed(0)
    weight_NK, bias_N = torch.randn(256, 512), torch.randn(256)
    x = torch.randn(4, 512) * torch.tensor([[100.0], [1.0], [1.0], [0.01]])
    expected = F.linear(x, weight_NK, bias_N)

    def errors(found: Tensor) -> Tensor:
        return (found - expected).norm(dim=1) / expected.norm(dim=1)

    ours = errors(CompiledInt8Linear(weight_NK, bias_N, gelu=False)(x))
    assert ours.max() < 0.02
    assert (ours[1:] < 0.2 * errors(Int8Linear(weight_NK, bias_N)(x))[1:]).all()


@pytest.mark.parametrize("value", [0.0, 5.0, -5.0])
def test_rows_of_one_number(value: float) -> None:
    weight_NK, x = torch.eye(8), torch.full((2, 8), value)
    found = CompiledInt8Linear(weight_NK, None, gelu=False)(x)
    torch.testing.assert_close(found, x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("inputs", "place"), [(8, 3), (40, 3), (40, 35)])
def test_no_number_is_lost_that_is_none(inputs: int, place: int) -> None:
    """What is not finite must not become a number that looks like any other."""
    linear = CompiledInt8Linear(torch.randn(16, inputs), None, gelu=False)
    for bad in (float("nan"), float("inf"), float("-inf")):
        x = torch.randn(2, inputs)
        x[1, place] = bad
        found = linear(x)
        assert found[0].isfinite().all()
        assert not found[1].isfinite().any()


def test_a_cpu_without_dot_products_of_bytes_gives_the_same_sums(tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = torch.randn(35, 70), torch.randn(35), torch.randn(3, 2, 70)
    torch.save(given, tmp_path / "given.pt")
    environment = {FOLDER_VARIABLE: str(tmp_path / "cache"), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-c", WITHOUT_DOT_PRODUCTS, tmp_path / "given.pt", tmp_path / "found.pt"]
    subprocess.run(program, check=True, env=environment)
    weight_NK, bias_N, x = given
    found = torch.load(tmp_path / "found.pt")
    torch.testing.assert_close(
        found, CompiledInt8Linear(weight_NK, bias_N, gelu=True)(x), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (torch.ones(2, 80), "80 inputs are given for weights of 72"),
        (torch.ones(2, 0), "0 inputs are given"),
        (torch.ones(70, 2).T, "without gaps"),
        (torch.ones(2, 70).double(), "must be fp32"),
        (torch.tensor(1.0), "of one dimension or more"),
    ],
)
def test_int8_linears_refuse_what_they_would_misread(x: Tensor, said: str) -> None:
    linear = CompiledInt8Linear(torch.randn(35, 70), None, gelu=False)
    operator = torch.ops.wavslm_inductor.int8_linear
    with pytest.raises(RuntimeError, match=said):
        operator(x, linear.packed, linear.scales, linear.sums)
    with pytest.raises(RuntimeError, match="one for each of the outputs"):
        operator(torch.ones(2, 70), linear.packed, linear.scales[:15], linear.sums[:15])
    with pytest.raises(RuntimeError, match="weights must be int8"):
        operator(torch.ones(2, 70), linear.packed.float(), linear.scales, linear.sums)


def test_most_inputs_are_still_exact() -> None:
    """All of them as large as can be; more would pass 32 bits, and such linears are not rounded."""
    linear = CompiledInt8Linear(torch.ones(16, MOST_INPUTS), None, gelu=False)
    torch.testing.assert_close(linear(torch.ones(1, MOST_INPUTS)), torch.full((1, 16), float(MOST_INPUTS)))
    assert type(PackOnce("int8")(torch.ones(16, MOST_INPUTS), None)) is CompiledInt8Linear
    assert type(PackOnce("int8")(torch.ones(16, MOST_INPUTS + 1), None)) is not CompiledInt8Linear


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (torch.ones(3, 2, 4), torch.ones(2, 4, 5), "of the same B and K"),
        (torch.ones(2, 2, 9), torch.ones(2, 4, 5), "of the same B and K"),
        (torch.ones(2, 2, 4), torch.ones(2, 4, 5).double(), "takes fp32"),
        (torch.ones(2, 2, 4), torch.ones(2, 5, 4).mT, "side by side"),
    ],
)
def test_products_refuse_what_they_would_misread(a: Tensor, b: Tensor, said: str) -> None:
    with pytest.raises(RuntimeError, match=said):
        torch.ops.wavslm_inductor.few_rows_product(a, b)


@pytest.mark.parametrize(("batch", "queries", "inputs"), [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_products_of_nothing(batch: int, queries: int, inputs: int) -> None:
    a, b = torch.ones(batch, queries, inputs), torch.ones(batch, inputs, 5)
    torch.testing.assert_close(torch.ops.wavslm_inductor.few_rows_product(a, b), a @ b)


@pytest.mark.parametrize(("beta", "alpha"), [(1, 1), (0.5, 2), (0, 0.25)])
def test_added_products_are_those_of_torch(beta: float, alpha: float) -> None:
    """What is given may be no number where it counts for nothing."""
    a, b = torch.randn(2, 3, 4), torch.randn(2, 4, 5)
    given = torch.full((2, 3, 5), float("nan")) if beta == 0 else torch.randn(5)
    expected = torch.baddbmm(given, a, b, beta=beta, alpha=alpha)
    torch.testing.assert_close(added_products(given, a, b, beta=beta, alpha=alpha), expected)


def test_what_cannot_be_loaded_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the system's error alone: a folder may forbid to run what lies in it."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr("wavslm_inductor.kernels._build", lambda path: path.write_bytes(b"no program"))
    with pytest.raises(WavslmError, match=r"cannot load what it built .* WAVSLM_CACHE"):
        load_kernels.__wrapped__()


@pytest.mark.parametrize("queries", [1, 3, 4, 7, 16])
@pytest.mark.parametrize(("inputs", "outputs"), [(64, 512), (512, 64), (5, 70), (1, 1), (33, 129)])
def test_products_of_few_rows(queries: int, inputs: int, outputs: int) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(3, queries, inputs), torch.randn(3, inputs, outputs)
    spread_a, spread_b = (
        torch.randn(queries, 3, 2 * inputs).transpose(0, 1)[..., ::2],
        torch.randn(3, inputs, 200),
    )
    for left, right in ((a, b), (spread_a, spread_b[..., :outputs]), (a, b[:1].expand(3, -1, -1))):
        found = torch.ops.wavslm_inductor.few_rows_product(left, right)
        torch.testing.assert_close(found.double(), left.double() @ right.double(), atol=1e-4, rtol=1e-5)
