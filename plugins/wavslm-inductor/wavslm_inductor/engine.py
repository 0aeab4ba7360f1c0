"""The engine `inductor`: steps of parts compiled ahead of time, weights apart from what is compiled.

States are written where they lie, and a call goes from Python into the compiled step once.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any
from weakref import finalize

import torch
from torch import Tensor, nn
from torch.export.graph_signature import InputKind
from torch.utils._python_dispatch import _disable_current_modes

from wavslm_core.plugin import State, WavslmError, pack_module, summary
from wavslm_inductor.kernels import added_products, load_kernels, products
from wavslm_inductor.linears import PackOnce, laid_out_plainly, linear
from wavslm_inductor.packages import compiled_package

Step = Callable[[Tensor, State], tuple[Tensor, State]]


def compiled(step: nn.Module, x: Tensor, state: State, *, weights: str) -> Step:
    """Return what maps a chunk and a state, shaped as `x` and `state`, to y and the next state.

    Compiles steps of these shapes if this machine has not yet, which takes half a minute and more.
    Raises: WavslmError where they cannot be compiled.
    """
    # A copy of the modules alone: the caller's stay as they are, and weights are shared.
    tensors = [*step.parameters(), *step.buffers()]
    writing = InPlace(copy.deepcopy(step, memo={id(tensor): tensor for tensor in tensors})).eval()
    load_kernels()
    pack_module(writing, PackOnce(weights))
    packed = laid_out_plainly(writing)
    with torch.no_grad():
        program = torch.export.export(writing, (x.contiguous(), *_apart(state)))
        program = program.run_decompositions(
            {
                torch.ops.aten.pow.Scalar: _power,
                torch.ops.aten.linear.default: linear,
                torch.ops.aten.bmm.default: products,
                torch.ops.aten.baddbmm.default: added_products,
            }
        )
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.CONSTANT_TENSOR:
            spec.kind, spec.persistent = InputKind.BUFFER, False
    # What a user knows a step by is the class of its part.
    named = type(getattr(step, "part", step)).__name__
    package = compiled_package(program, named=named)
    held = {**program.state_dict, **program.constants, **packed}
    made = CompiledStep(package, {name: held[name] for name in package.get_constant_fqns()})
    try:
        made(x, tuple(tensor.clone() for tensor in state))
    except RuntimeError as error:
        raise WavslmError(
            f"the compiled step of {named} does not run: {summary(error)}. Give engine='torch'"
        ) from error
    return made


class CompiledStep:
    """A compiled step, over the states of any number of streams."""

    def __init__(self, package: Any, constants: dict[str, Tensor]) -> None:
        # Over the same memory: torch's loader keeps what it is given for good.
        read = {name: tensor.detach() for name, tensor in constants.items()}
        package.load_constants(read, use_inactive=False, check_full_update=True, user_managed=True)
        finalize(self, _let_go, [*read.values()]).atexit = False
        self._package = package
        self._constants = constants
        """What is compiled reads, the very tensors, by which `PackOnce` knows that they are still there."""
        self._left: State | None = None
        """The state that was given back last, which is as it has to be."""

    def __call__(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        left = self._left
        if state is not left:
            # What steps part by part hands the tensors back in another tuple.
            same = left is not None and len(left) == len(state) and all(map(operator.is_, left, state))
            self._left = state = left if left is not None and same else _apart(state)
        (y,) = self._package.boxed_run([x.contiguous(), *state])
        return y, state


def _let_go(tensors: list[Tensor]) -> None:
    """Empty tensors that nothing reads any more, whoever still holds them."""
    for tensor in tensors:
        # Garbage may be collected in the middle of anything, such as tracing the next step.
        with _disable_current_modes(), torch.inference_mode(tensor.is_inference()):
            empty = torch.empty(1 if tensor.is_mkldnn else 0, dtype=tensor.dtype)
            tensor.data = empty.to_mkldnn() if tensor.is_mkldnn else empty


def _apart(state: State) -> State:
    """Return a state each of whose tensors lies in memory of its own, without gaps, copied if not."""
    seen: set[int] = set()
    apart = []
    for tensor in state:
        place = tensor.data_ptr()
        apart.append(tensor.clone() if place in seen else tensor.contiguous())
        if tensor.numel():
            seen.add(place)
    return tuple(apart)


class InPlace(nn.Module):
    """A step that writes the next state into the one it is given, and returns y alone."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor, *state: Tensor) -> Tensor:
        y, *left = self.step(x, *state)
        for tensor, next_tensor in zip(state, left, strict=True):
            if next_tensor is not tensor:
                tensor.copy_(next_tensor)
        return y


def _power(base: float, exponents: Tensor) -> Tensor:
    """Return powers in the dtype that torch gives them: 2.13 compiles those of one integer to floats."""
    return torch.pow(torch.full_like(exponents, base, dtype=torch.result_type(exponents, base)), exponents)
