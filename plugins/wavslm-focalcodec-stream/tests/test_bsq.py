"""Binary spherical quantisation against enumeration of every code."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from wavslm_focalcodec_stream.bsq import (
    codes_from_tokens,
    entropy_loss,
    straight_through,
    tokens_from_latents,
)


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


@pytest.mark.parametrize("group_bits", [6, 12])
def test_entropy_equals_enumeration(group_bits: int) -> None:
    latents = F.normalize(torch.randn(40, 6), dim=-1)
    codes = codes_from_tokens(torch.arange(64), bits=6)
    probabilities = (-3.0 * torch.cdist(latents, codes).square()).softmax(dim=-1)
    usage = probabilities.mean(dim=0)
    expected = torch.special.entr(probabilities).sum(-1).mean() - torch.special.entr(usage).sum()
    actual = entropy_loss(latents, inverse_temperature=3.0, group_bits=group_bits)
    assert torch.allclose(actual, expected, atol=1e-4)


def test_single_bits_give_an_upper_bound_of_the_usage() -> None:
    latents = F.normalize(torch.randn(1, 1, 8).repeat(1, 400, 1) * torch.randn(1, 400, 1).sign(), dim=-1)[0]
    by_bit = entropy_loss(latents, inverse_temperature=100.0, group_bits=1)
    jointly = entropy_loss(latents, inverse_temperature=100.0, group_bits=8)
    assert by_bit < -4.0  # every bit is on half of the time
    assert jointly > -1.0  # but only two codes are used


def test_entropy_of_many_codes_is_cheap() -> None:
    latents = F.normalize(torch.randn(4000, 16), dim=-1)
    loss = entropy_loss(latents, inverse_temperature=100.0, group_bits=8)
    assert -16 * math.log(2) < float(loss) < 0


def test_entropy_is_the_same_under_autocast() -> None:
    latents = F.normalize(torch.randn(200, 10), dim=-1)
    expected = entropy_loss(latents, inverse_temperature=100.0, group_bits=8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(entropy_loss(latents, inverse_temperature=100.0, group_bits=8), expected)
