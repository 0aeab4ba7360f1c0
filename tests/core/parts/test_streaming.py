"""Convolutions against float64, in both precisions, at every width of group and length of kernel.

CPUs differ in which kernels they run, and some of those are wrong: this is to fail on the CPU that has one.
"""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wavslm_core.errors import StreamingError
from wavslm_core.parts.streaming import FEW_ROWS, CausalConv1d, check_whole_chunks

GROUPS = 2
LIMITS = {"fp32": 1e-5, "bf16": 0.02}
"""Errors relative to the norm: rounding of 2⁻²⁴ and 2⁻⁸, once in and once out, with room."""


def relative_error(given: Tensor, wanted: Tensor) -> float:
    return float((given.double() - wanted).norm() / wanted.norm())


def exact(conv: CausalConv1d, x_BTD: Tensor) -> Tensor:
    """Return what the convolution is, in float64 and by its definition alone."""
    bias = None if conv.bias is None else conv.bias.double()
    padded_BTD = F.pad(x_BTD.double(), (0, 0, conv.context, 0))
    windows_BTDK = padded_BTD.unfold(1, conv.kernel_size[0], 1).unflatten(2, (conv.groups, -1))
    weight_GOIK = conv.weight.double().unflatten(0, (conv.groups, -1))
    y_BTGO = torch.einsum("btgik,goik->btgo", windows_BTDK, weight_GOIK)
    return y_BTGO.flatten(2) if bias is None else y_BTGO.flatten(2) + bias


@pytest.mark.parametrize("frames", [8, FEW_ROWS + 9])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 6, 8, 10, 12, 15, 16, 24, 32, 48, 64])
def test_convolutions_are_right_in_both_precisions(width: int, frames: int) -> None:
    torch.manual_seed(width)
    for kernel in (1, 2, 3, 5, 7, 8, 16, 31, 64, 128):
        conv = CausalConv1d(GROUPS * width, GROUPS * width, kernel, groups=GROUPS, left_padding="zeros")
        x_BTD = torch.randn(1, frames, GROUPS * width)
        cotangent_BTD = torch.randn(1, frames, GROUPS * width)
        wanted_x_BTD = x_BTD.double().requires_grad_()
        weight = conv.weight
        wanted_BTD = exact(conv, wanted_x_BTD)
        wanted = (
            wanted_BTD.detach(),
            *torch.autograd.grad(wanted_BTD, (wanted_x_BTD, weight), cotangent_BTD.double()),
        )
        for precision, limit in LIMITS.items():
            given_x_BTD = x_BTD.clone().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                given_BTD = conv(given_x_BTD)
            gradients = torch.autograd.grad(
                given_BTD, (given_x_BTD, weight), cotangent_BTD.to(given_BTD.dtype)
            )
            for what, value, right in zip(
                ("output", "input's gradient", "weight's gradient"),
                (given_BTD.detach(), *gradients),
                wanted,
                strict=True,
            ):
                error = relative_error(value, right.double())
                assert error < limit, f"{what}, kernel {kernel}, {precision}: off by {error:.1%}"


@pytest.mark.parametrize("width", [1, 8, 12, 64])
def test_a_convolution_turned_into_bf16_is_right_too(width: int) -> None:
    torch.manual_seed(0)
    conv = CausalConv1d(4 * width, 4 * width, 16, groups=4, left_padding="zeros").bfloat16()
    x_BTD = torch.randn(1, 50, 4 * width).bfloat16()
    given_BTD = conv(x_BTD)
    assert given_BTD.dtype == torch.bfloat16
    assert relative_error(given_BTD, exact(conv, x_BTD)) < LIMITS["bf16"]


@pytest.mark.parametrize("given", [0, 3, 9])
def test_a_step_takes_whole_chunks(given: int) -> None:
    with pytest.raises(StreamingError, match=f"whole chunks of 4 frames, got {given}; collect more before"):
        check_whole_chunks(torch.zeros(1, given), 4, "frames")
