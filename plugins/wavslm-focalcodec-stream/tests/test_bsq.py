"""Binary spherical quantisation against enumeration of every code."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from wavslm_focalcodec_stream.bsq import (
    codes_from_tokens,
    entropy_loss,
    straight_through,
    tokens_from_latents,
)


class Largest(TorchDispatchMode):
    """Notes how many elements the largest result of anything that is computed has."""

    size = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        result = function(*arguments, **(options or {}))
        self.size = max(self.size, result.numel() if isinstance(result, Tensor) else 0)
        return result


def test_most_significant_bit_first() -> None:
    latents = torch.tensor([[[0.5, -0.5, -0.1, 0.2]], [[-0.5, 0.0, 0.1, -0.2]]])
    assert tokens_from_latents(latents).tolist() == [[9], [2]]


@pytest.mark.parametrize("bits", [3, 13, 16])
def test_tokens_and_codes_are_inverse(bits: int) -> None:
    tokens = torch.randint(0, 1 << bits, (2, 50))
    codes = codes_from_tokens(tokens, bits=bits)
    assert torch.equal(tokens_from_latents(codes), tokens)
    assert torch.equal(codes.abs().unique(), torch.tensor([1 / math.sqrt(bits)]))


def test_gradient_passes_straight_through() -> None:
    with torch.enable_grad():
        latents = F.normalize(torch.randn(2, 5, 6), dim=-1).requires_grad_()
        codes = straight_through(latents)
        weights = torch.randn_like(codes)
        (codes * weights).sum().backward()
    assert torch.allclose(codes, codes_from_tokens(tokens_from_latents(latents), bits=6), atol=1e-7)
    assert torch.equal(latents.grad, weights)


@pytest.mark.parametrize("bits", [1, 6, 7])
def test_exact_entropy_and_its_gradient_equal_enumeration(bits: int) -> None:
    latents = F.normalize(torch.randn(40, bits), dim=-1)
    codes = codes_from_tokens(torch.arange(1 << bits), bits=bits)

    def enumerated(latents: Tensor) -> Tensor:
        probabilities = (-3.0 * (latents[:, None] - codes).square().sum(-1)).softmax(dim=-1)
        usage = probabilities.mean(dim=0)
        return torch.special.entr(probabilities).sum(-1).mean() - torch.special.entr(usage).sum()

    exact = partial(entropy_loss, inverse_temperature=3.0, group_bits=16)
    assert torch.allclose(exact(latents), enumerated(latents), atol=1e-5)
    with torch.enable_grad():
        assert torch.allclose(*(torch.func.grad(loss)(latents) for loss in (exact, enumerated)), atol=1e-5)


def test_groups_are_exact_where_they_are_independent_and_overrate_the_usage_elsewhere() -> None:
    estimate = partial(entropy_loss, inverse_temperature=20.0)
    first, second = 0.4 * torch.randn(2, 30, 4)
    every_pair = torch.cat([first.repeat_interleave(30, 0), second.repeat(30, 1)], dim=1)
    assert float(estimate(every_pair, group_bits=4)) == pytest.approx(
        float(estimate(every_pair, group_bits=8)), abs=1e-3
    )
    some_pairs = torch.cat([first, second], dim=1)
    by_bit, by_group, exact = (float(estimate(some_pairs, group_bits=bits)) for bits in (1, 4, 8))
    assert by_bit < by_group - 0.1 < exact - 0.2


def test_single_bits_give_an_upper_bound_of_the_usage() -> None:
    latents = F.normalize(torch.randn(1, 1, 8).repeat(1, 400, 1) * torch.randn(1, 400, 1).sign(), dim=-1)[0]
    by_bit = entropy_loss(latents, inverse_temperature=100.0, group_bits=1)
    jointly = entropy_loss(latents, inverse_temperature=100.0, group_bits=8)
    assert by_bit < -4.0  # every bit is on half of the time
    assert jointly > -1.0  # but only two codes are used


def test_exact_entropy_of_many_codes_makes_no_table_of_them_all() -> None:
    latents = F.normalize(torch.randn(4000, 16), dim=-1)
    largest = Largest()
    with largest:
        exact = float(entropy_loss(latents, inverse_temperature=100.0, group_bits=16))
    assert largest.size == 4000 * 256
    assert float(entropy_loss(latents, inverse_temperature=100.0, group_bits=8)) < exact < 0


def test_entropy_is_the_same_under_autocast() -> None:
    latents = F.normalize(torch.randn(200, 10), dim=-1)
    expected = entropy_loss(latents, inverse_temperature=100.0, group_bits=8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(entropy_loss(latents, inverse_temperature=100.0, group_bits=8), expected)
