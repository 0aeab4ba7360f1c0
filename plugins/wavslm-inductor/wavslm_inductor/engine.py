"""The engine `inductor`: steps of parts compiled ahead of time, weights apart from what is compiled.

States are written where they lie, and a call goes from Python into the compiled step once.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, MutableMapping
from typing import Any, Literal
from weakref import ref

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from wavslm_core.plugin import PackLinear, State, WavslmError, pack_module, summary
from wavslm_inductor.packages import compiled_package

Step = Callable[[Tensor, State], tuple[Tensor, State]]


FEW_ROWS = 16


def compiled(step: nn.Module, x: Tensor, state: State, *, weights: str) -> Step:
    """Return what maps a chunk and a state, shaped as `x` and `state`, to y and the next state.

    Compiles steps of these shapes if this machine has not yet, which takes half a minute and more.
    Raises: WavslmError where they cannot be compiled.
    """
    # A copy of the modules alone: the caller's stay as they are, and weights are shared.
    tensors = [*step.parameters(), *step.buffers()]
    writing = InPlace(copy.deepcopy(step, memo={id(tensor): tensor for tensor in tensors})).eval()
    pack_module(writing, PackOnce(weights))
    packed = _laid_out_plainly(writing)
    with torch.no_grad():
        program = torch.export.export(writing, (x.contiguous(), *_apart(state)))
        program = program.run_decompositions(
            {torch.ops.aten.pow.Scalar: _power, torch.ops.aten.linear.default: _linear}
        )
    # What a user knows a step by is the class of its part.
    named = type(getattr(step, "part", step)).__name__
    package = compiled_package(program, named=named)
    held = {**program.state_dict, **program.constants, **packed}
    made = CompiledStep(package, {name: held[name].detach() for name in package.get_constant_fqns()})
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
        package.load_constants(constants, use_inactive=False, check_full_update=True, user_managed=True)
        self._package = package
        self._constants = constants
        """What is compiled reads these where they lie."""
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


class PackOnce(PackLinear):
    """Lays weights out once for all steps that read them, as long as one of those is there."""

    def __call__(
        self, weight_NK: Tensor, bias_N: Tensor | None, *, activation: Literal["none", "gelu"] = "none"
    ) -> nn.Module:
        linear = super().__call__(weight_NK, bias_N, activation=activation)
        packed = getattr(linear, "packed", None)
        if packed is None or weight_NK.is_inference():
            return linear
        # Weights that were trained on meanwhile are others, in the same place.
        now = (self.weights, weight_NK._version)
        then, held = _LAID_OUT.get(weight_NK, (None, lambda: None))
        kept = held() if then == now else None
        if kept is None:
            _LAID_OUT[weight_NK] = (now, ref(packed))
        else:
            linear.packed = kept
        return linear


Laid = tuple[tuple[str, int] | None, Callable[[], Tensor | None]]
_LAID_OUT: MutableMapping[Tensor, Laid] = WeakIdKeyDictionary()
"""Weights to what they were packed as, of which version, and the packed ones, held by the steps alone."""


def _power(base: float, exponents: Tensor) -> Tensor:
    """Return powers in the dtype that torch gives them: 2.13 compiles those of one integer to floats."""
    return torch.pow(torch.full_like(exponents, base, dtype=torch.result_type(exponents, base)), exponents)


def _linear(x: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """Return a linear; of few rows as a loop over its weights, as to call a product costs more."""
    if x.numel() // x.shape[-1] > FEW_ROWS:
        y = x @ weight_NK.mT
    else:
        # Taken as it lies in memory, so that what makes it is not made anew for every output.
        lying = x.contiguous()
        lying = lying.as_strided(lying.shape, lying.stride())
        y = (lying.unsqueeze(-2) * weight_NK).sum(dim=-1)
    return y if bias_N is None else y + bias_N


def _laid_out_plainly(module: nn.Module) -> dict[str, Tensor]:
    """Make buffers of tensors that are mere attributes, in place, so that what is compiled knows their names.

    Those in oneDNN's own layout cannot be compiled against. Plain ones stand for them meanwhile, since its
    operators take both; returns them by name.
    """
    packed = {}
    for prefix, part in module.named_modules():
        for name, value in [*vars(part).items()]:
            if isinstance(value, Tensor):
                if value.is_mkldnn:
                    packed[f"{prefix}.{name}"] = value
                delattr(part, name)
                part.register_buffer(name, value.to_dense() if value.is_mkldnn else value)
    return packed
