"""Blockwise attention against a plain one with the full mask: values, gradients, size of what is computed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wavslm_wavlm import blocks
from wavslm_wavlm.blocks import Reach, make_plan, whole_mask
from wavslm_wavlm.positions import bias_by_offset, bias_table, whole_bias
from wavslm_wavlm.scores import attend

HEADS, WIDTH, BUCKETS, MAX_DISTANCE = 3, 8, 16, 20
CASES = [
    pytest.param(Reach(4, 24), 100, None, id="causal"),
    pytest.param(Reach(4, 24), 203, None, id="causal-partial-chunk"),
    pytest.param(Reach(4, 24), 203, [203, 70, 5, 150, 128], id="causal-lengths"),
    pytest.param(Reach(5, 13), 202, [202, 131], id="window-no-multiple-of-chunk"),
    pytest.param(Reach(4, 512), 150, [150, 149], id="window-above-length"),
    pytest.param(Reach(1, 7), 90, None, id="one-frame-chunks"),
    pytest.param(Reach(), 130, None, id="full"),
    pytest.param(Reach(), 130, [130, 3, 77], id="full-lengths"),
]


def naive(x: list[Tensor], reach: Reach, lengths: list[int]) -> Tensor:
    """The definition, one item at a time, with every score and the complete mask."""
    queries, keys, values, gate, weight = x
    outputs = torch.zeros_like(queries)
    for item, length in enumerate(lengths):
        i = torch.arange(length)[:, None]
        j = torch.arange(length)[None]
        bias = bias_by_offset(
            weight, first=1 - length, last=length - 1, num_buckets=BUCKETS, max_distance=MAX_DISTANCE
        )[:, j - i + length - 1]
        q, k, v = (tensor[item, :, :length] for tensor in (queries, keys, values))
        scores = q @ k.mT / WIDTH**0.5 + gate[item, :, :length] * bias
        if reach.window is not None:
            end = ((i + reach.chunk) // reach.chunk * reach.chunk).clamp(max=length)
            start = (end - reach.window).clamp(min=0)
            scores = scores.masked_fill((j < start) | (j >= end), -torch.inf)
        outputs[item, :, :length] = scores.softmax(-1) @ v
    return outputs


def inputs(size: int, batch: int) -> list[Tensor]:
    torch.manual_seed(1)
    x = [torch.randn(batch, HEADS, size, WIDTH) for _ in range(3)]
    # Gates of both signs: masking must not depend on them.
    x += [torch.randn(batch, HEADS, size, 1), torch.randn(BUCKETS, HEADS)]
    return [tensor.requires_grad_() for tensor in x]


def blockwise(x: list[Tensor], reach: Reach, lengths: list[int]) -> Tensor:
    queries, keys, values, gate, weight = x
    size = queries.shape[2]
    plan = make_plan(reach, lengths=lengths, size=size, heads=HEADS, device=queries.device)
    table = bias_table(
        weight,
        rows=plan.rows,
        before=plan.before,
        after=plan.after,
        num_buckets=BUCKETS,
        max_distance=MAX_DISTANCE,
    )
    return attend(queries, keys, values, gate_BHT1=gate, table_HQN=table, plan=plan)


def traced(x: list[Tensor], reach: Reach, lengths: list[int]) -> Tensor:
    """What torch traces for a graph."""
    queries, keys, values, gate, weight = x
    size = queries.shape[2]
    known = None if set(lengths) == {size} else torch.tensor(lengths)
    table = whole_bias(weight, size=size, num_buckets=BUCKETS, max_distance=MAX_DISTANCE)
    plan = whole_mask(reach, lengths=known, size=size, device=queries.device)
    return attend(queries, keys, values, gate_BHT1=gate, table_HQN=table, plan=plan)


@pytest.mark.parametrize("score_bytes", [1, 4 << 20], ids=["item-by-item", "together"])
@pytest.mark.parametrize(("reach", "size", "lengths"), CASES)
def test_equals_full_mask(
    reach: Reach, size: int, lengths: list[int] | None, score_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "SCORE_BYTES", score_bytes)
    lengths = lengths or [size, size]
    x = inputs(size, len(lengths))
    valid = (torch.arange(size) < torch.tensor(lengths)[:, None])[:, None, :, None]
    weights = torch.randn(len(lengths), HEADS, size, WIDTH) * valid

    expected = naive(x, reach, lengths)
    expected_gradients = torch.autograd.grad((expected * weights).sum(), x)
    found = blockwise(x, reach, lengths)
    gradients = torch.autograd.grad((found * weights).sum(), x)

    assert found.isfinite().all()
    torch.testing.assert_close(found * valid, expected * valid, atol=1e-5, rtol=1e-5)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("reach", "size", "lengths"), CASES)
def test_what_is_traced_equals_the_blocks(reach: Reach, size: int, lengths: list[int] | None) -> None:
    lengths = lengths or [size, size]
    x = inputs(size, len(lengths))
    valid = (torch.arange(size) < torch.tensor(lengths)[:, None])[:, None, :, None]
    weights = torch.randn(len(lengths), HEADS, size, WIDTH) * valid
    found, expected = traced(x, reach, lengths), blockwise(x, reach, lengths)
    assert found.isfinite().all()
    torch.testing.assert_close(found * valid, expected * valid, atol=1e-5, rtol=1e-5)
    gradients, expected_gradients = (torch.autograd.grad((y * weights).sum(), x) for y in (found, expected))
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, atol=1e-4, rtol=1e-4)
    assert traced(x, reach, [size, *[0] * (len(lengths) - 1)]).isfinite().all()


def test_bf16_stays_close_to_fp32() -> None:
    x = inputs(100, 2)
    exact = blockwise(x, Reach(4, 24), [100, 90])
    half = [*(tensor.detach().bfloat16().requires_grad_() for tensor in x[:3]), *x[3:]]
    found = blockwise(half, Reach(4, 24), [100, 90])
    found.float().square().sum().backward()
    assert found.dtype == torch.bfloat16
    assert half[0].grad is not None
    assert half[0].grad.isfinite().all()
    torch.testing.assert_close(found.float()[:, :, :88], exact[:, :, :88], atol=0.05, rtol=0.05)


def test_work_grows_linearly_with_length() -> None:
    def scores(size: int) -> int:
        plan = make_plan(Reach(4, 512), lengths=[size], size=size, heads=16, device=torch.device("cpu"))
        return sum((b.stop - b.start) * (b.key_stop - b.key_start) for b in plan.blocks)

    assert scores(8192) - scores(4096) == scores(12288) - scores(8192)
    assert scores(4096) <= 4096 * (512 + blocks.BLOCK_ROWS)


def test_empty_items_and_padding_are_skipped() -> None:
    plan = make_plan(Reach(4, 24), lengths=[10, 0], size=1000, heads=2, device=torch.device("cpu"))
    assert [(block.start, block.stop) for block in plan.blocks] == [(0, 64)]
    found = blockwise(inputs(130, 2), Reach(), [130, 0])
    assert found.isfinite().all()
