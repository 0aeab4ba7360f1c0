"""Steps as programs that look at no value and write the next state where the last one lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from wavslm_core.plugin import WavslmError, summary

aten = torch.ops.aten

WRITES: dict[Any, Any] = {
    aten.index_copy.default: aten.index_copy_.default,
    aten.scatter.src: aten.scatter_.src,
}
"""Operators that give a ring with a few new frames, and those that write these into the ring."""

Program = Callable[[Tensor, Sequence[Tensor]], Tensor]


def in_place_program(step: nn.Module, x: Tensor, state: Sequence[Tensor], *, named: str) -> Program:
    """Return what maps x and the tensors of a state to y, and writes the next state into them.

    `x` and `state` as they are to be given, all on one device. Raises: WavslmError where the step cannot be
    exported.
    """
    try:
        with torch.no_grad():
            module = torch.export.export(step.eval(), (x, *state)).module(check_guards=False)
    except Exception as error:
        raise WavslmError(
            f"the engine cuda_graphs cannot make a graph of the step of {named}: {summary(error)}. Leave the "
            "engine out, and the model steps as it is"
        ) from error
    assert isinstance(module, GraphModule)
    _write_in_place(module)

    @torch.no_grad()
    def run(x: Tensor, state: Sequence[Tensor]) -> Tensor:
        y: Tensor
        y, *left = module(x, *state)
        held = {tensor.untyped_storage()._cdata for tensor in state}
        moved = [(old, new) for old, new in zip(state, left, strict=True) if new is not old]
        # What is a view of a state that is about to be written is copied before any is.
        news = [new.clone() if new.untyped_storage()._cdata in held else new for _, new in moved]
        if y.untyped_storage()._cdata in held:
            y = y.clone()
        if moved:
            torch._foreach_copy_([old for old, _ in moved], news)
        return y

    return run


def _write_in_place(module: GraphModule) -> None:
    """Let rings that only one operator reads be written where they lie, instead of copied twice a step."""
    _, *given = [node for node in module.graph.nodes if node.op == "placeholder"]
    (output,) = [node for node in module.graph.nodes if node.op == "output"]
    _, *left = output.args[0]
    for held, new in zip(given, left, strict=True):
        writes = getattr(new, "target", None) in WRITES and new.args[0] is held
        if writes and [*held.users] == [new]:
            new.target = WRITES[new.target]
    module.recompile()
