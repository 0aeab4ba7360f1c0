"""Attention over planned blocks, forward and backward, without keeping or growing anything.

scores = q·k/√d + gate · bias. A block's scores live in one buffer that all blocks of a call reuse; the
backward pass computes them again instead of storing them, which costs one matrix product in five and saves
B·H·T·W floats per layer. Products run in the dtype of q; scores, softmax and bias gradients in fp32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wavslm_wavlm.blocks import Block, Plan, Whole


def attend(
    queries_BHTd: Tensor,
    keys_BHTd: Tensor,
    values_BHTd: Tensor,
    *,
    gate_BHT1: Tensor,
    table_HQN: Tensor,
    plan: Plan | Whole,
) -> Tensor:
    """Return what each query gathers, (B,H,T,d); padded places hold finite numbers.

    `table_HQN` comes from `positions.bias_table` with the plan's rows, before and after; for a `Whole`, from
    `positions.whole_bias`.
    """
    if isinstance(plan, Whole):
        return _attend_whole(queries_BHTd, keys_BHTd, values_BHTd, gate_BHT1, table_HQN, plan.mask)
    result: Tensor = _Attend.apply(  # type: ignore[no-untyped-call]
        queries_BHTd, keys_BHTd, values_BHTd, gate_BHT1, table_HQN, plan
    )
    return result


def _attend_whole(
    queries: Tensor, keys: Tensor, values: Tensor, gate: Tensor, table: Tensor, mask: Tensor
) -> Tensor:
    """Do what `_Attend` does, in operations that torch can trace and differentiate itself."""
    with torch.autocast(queries.device.type, enabled=False):
        products = (queries @ keys.mT).float() * queries.shape[-1] ** -0.5
        probabilities = (products + gate * table + mask).softmax(-1)
        return probabilities.to(values.dtype) @ values


class _Buffers:
    """One allocation per call, viewed as (items, H, Q, K) for each block."""

    def __init__(self, plan: Plan, heads: int, like: Tensor) -> None:
        sizes = ((b.last - b.first) * (b.stop - b.start) * (b.key_stop - b.key_start) for b in plan.blocks)
        size = max(sizes, default=0)
        self._memory = torch.empty(size * heads, dtype=torch.float32, device=like.device)
        self._heads = heads

    def view(self, block: Block) -> Tensor:
        shape = (
            block.last - block.first,
            self._heads,
            block.stop - block.start,
            block.key_stop - block.key_start,
        )
        count = shape[0] * shape[1] * shape[2] * shape[3]
        return self._memory[:count].view(shape)


def _rows(x_BHTd: Tensor, block: Block) -> Tensor:
    """Return the block's queries as (items·H, Q, d)."""
    return x_BHTd[block.first : block.last, :, block.start : block.stop].flatten(0, 1)


def _columns(x_BHTd: Tensor, block: Block) -> Tensor:
    """Return the block's keys as (items·H, K, d)."""
    return x_BHTd[block.first : block.last, :, block.key_start : block.key_stop].flatten(0, 1)


def _bias(table_HQN: Tensor, block: Block, plan: Plan) -> Tensor:
    """Return the block's slice of the bias table, (H, Q, K)."""
    column = block.key_start - block.start + plan.before
    width = block.key_stop - block.key_start
    return table_HQN[:, : block.stop - block.start, column : column + width]


def _probabilities(
    queries: Tensor, keys: Tensor, gate_BHT1: Tensor, bias_HQK: Tensor, block: Block, buffer_BHQK: Tensor
) -> Tensor:
    """Fill the buffer with softmax(q·k/√d + gate · bias) and return it, (items·H, Q, K) fp32."""
    gate = gate_BHT1[block.first : block.last, :, block.start : block.stop]
    if block.mask is None:
        torch.mul(gate, bias_HQK, out=buffer_BHQK)
    else:
        # The mask is added, not folded into the bias: a gate can be negative.
        torch.addcmul(block.mask, gate, bias_HQK, out=buffer_BHQK)
    scores = buffer_BHQK.flatten(0, 1)
    scale = queries.shape[-1] ** -0.5
    if queries.dtype == torch.float32:
        scores.baddbmm_(queries, keys.mT, alpha=scale)
    else:
        scores.add_(torch.bmm(queries, keys.mT), alpha=scale)
    torch.softmax(scores, dim=-1, out=scores)
    return scores


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, gate: Tensor, table: Tensor, plan: Plan
    ) -> Tensor:
        ctx.save_for_backward(queries, keys, values, gate, table)
        ctx.plan = plan
        output = torch.zeros_like(queries)
        buffers = _Buffers(plan, queries.shape[1], queries)
        with torch.autocast(queries.device.type, enabled=False):
            for block in plan.blocks:
                scores = _probabilities(
                    _rows(queries, block),
                    _columns(keys, block),
                    gate,
                    _bias(table, block, plan),
                    block,
                    buffers.view(block),
                )
                gathered = torch.bmm(scores.to(values.dtype), _columns(values, block))
                rows = output[block.first : block.last, :, block.start : block.stop]
                rows.copy_(gathered.view(rows.shape))
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, gate, table = ctx.saved_tensors
        plan: Plan = ctx.plan
        heads = queries.shape[1]
        scale = queries.shape[-1] ** -0.5
        grad_output = grad_output.to(queries.dtype).contiguous()
        grad_queries, grad_keys, grad_values = (torch.zeros_like(x) for x in (queries, keys, values))
        grad_gate = torch.zeros_like(gate)
        grad_table = torch.zeros_like(table)
        probability_buffers, gradient_buffers = (_Buffers(plan, heads, queries) for _ in range(2))
        for block in plan.blocks:
            q, k, v = _rows(queries, block), _columns(keys, block), _columns(values, block)
            grad_rows = _rows(grad_output, block)
            bias = _bias(table, block, plan)
            probability_buffer = probability_buffers.view(block)
            probabilities = _probabilities(q, k, gate, bias, block, probability_buffer)
            _add(grad_values, block, torch.bmm(probabilities.to(v.dtype).mT, grad_rows))

            gradient_buffer = gradient_buffers.view(block)
            gradients = gradient_buffer.flatten(0, 1)
            if v.dtype == torch.float32:
                torch.bmm(grad_rows, v.mT, out=gradients)
            else:
                gradients.copy_(torch.bmm(grad_rows, v.mT))
            torch.ops.aten._softmax_backward_data.out(
                gradients, probabilities, -1, torch.float32, grad_input=gradients
            )

            # The probabilities are spent; their buffer serves for the gate's gradient.
            items, rows = slice(block.first, block.last), slice(block.start, block.stop)
            torch.mul(gradient_buffer, bias, out=probability_buffer)
            grad_gate[items, :, rows] = probability_buffer.sum(-1, keepdim=True)
            grad_bias = _bias(grad_table, block, plan)
            for item_gate, item_gradient in zip(gate[items, :, rows], gradient_buffer, strict=True):
                grad_bias.addcmul_(item_gate, item_gradient)

            gradients = gradients.to(q.dtype)
            grad_q = torch.bmm(gradients, k).mul_(scale)
            grad_queries[items, :, rows] = grad_q.view(-1, heads, *grad_q.shape[1:])
            _add(grad_keys, block, torch.bmm(gradients.mT, q).mul_(scale))
        return grad_queries, grad_keys, grad_values, grad_gate, grad_table, None


def _add(total_BHTd: Tensor, block: Block, part: Tensor) -> None:
    """Add (items·H, K, d) to the block's keys."""
    columns = total_BHTd[block.first : block.last, :, block.key_start : block.key_stop]
    columns += part.view(columns.shape)
