"""Fast inference on CPUs: the linears of a model, packed for few rows at a time.

Streaming is bound by memory: a step reads every weight once for a handful of rows. Packing lays weights out
for that (fp32), or makes them smaller (bf16, int8 with one scale a row). Measured on one core with four
rows, relative to `nn.Linear`: fp32 1.5 times, bf16 2.7 times and int8 5.3 times as fast.

A module that keeps weights outside of `nn.Linear` takes part by defining
`pack_weights(pack: PackLinear) -> None`, which replaces them by `pack(weight, bias)` modules.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from wavslm_core.errors import CheckpointError, WavslmError, did_you_mean

PackLinear = Callable[[Tensor, Tensor | None], nn.Module]
"""(weight (N,K), bias (N,) or None) → a module that maps (…,K) to (…,N)."""

ModuleT = TypeVar("ModuleT", bound=nn.Module)

ROWS_HINT = 4
"""Rows that the fp32 and bf16 layouts are made for; other numbers work too."""


class OneDnnLinear(nn.Module):
    """A linear whose weight lies in oneDNN's own blocked layout, in fp32 or bf16; fp32 in and out."""

    def __init__(self, weight_NK: Tensor, bias_N: Tensor | None, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.out_features, self.in_features = weight_NK.shape
        self.dtype = dtype
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight_NK.detach().to(dtype), ROWS_HINT)
        self.bias = None if bias_N is None else bias_N.detach().to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(
            x.to(self.dtype), self.packed, self.bias, "none", [], ""
        )
        return y.to(x.dtype)


class Int8Linear(nn.Module):
    """A linear with int8 weights, one scale an output, and activations quantised on the fly."""

    def __init__(self, weight_NK: Tensor, bias_N: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight_NK.shape
        weight = weight_NK.detach().float()
        scales = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        with warnings.catch_warnings():
            # Announced as deprecated; there is no other public way to int8 products with dynamic activations.
            warnings.simplefilter("ignore")
            quantized = torch.quantize_per_channel(weight, scales.double(), zeros, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(
            quantized, None if bias_N is None else bias_N.detach().float()
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.quantized.linear_dynamic(x.float(), self.packed)
        return y.to(x.dtype)


PACKERS: dict[str, PackLinear] = {
    "fp32": lambda weight, bias: OneDnnLinear(weight, bias, dtype=torch.float32),
    "bf16": lambda weight, bias: OneDnnLinear(weight, bias, dtype=torch.bfloat16),
    "int8": Int8Linear,
}


def packed_copy(module: ModuleT, *, weights: str) -> ModuleT:
    """Return a copy for inference whose linears are packed; everything else is shared with the original.

    Raises: WavslmError for unknown `weights`, or for a model that is not on the CPU.
    """
    if weights not in PACKERS:
        raise WavslmError(
            f"weights='{weights}' is not a kind of packed weights; allowed: {', '.join(PACKERS)}."
            + did_you_mean(weights, PACKERS)
        )
    tensors = [*module.parameters(), *module.buffers()]
    devices = {tensor.device.type for tensor in tensors}
    if devices - {"cpu"}:
        raise WavslmError(
            f"packed inference is for the CPU, the model is on {', '.join(sorted(devices))}. "
            "Move it with .to('cpu'), or use it as it is"
        )
    packed = copy.deepcopy(module, memo={id(tensor): tensor for tensor in tensors}).eval()
    pack_module(packed, PACKERS[weights])
    for part in packed.modules():
        part.packed_weights = weights  # type: ignore[assignment]
    return packed


def refuse_packed(*modules: nn.Module) -> None:
    """Raises: CheckpointError when a module is a packed copy, whose weights cannot be saved."""
    if any(hasattr(module, "packed_weights") for module in modules):
        raise CheckpointError(
            "a model packed by for_inference() cannot be saved; save the model that it was made from"
        )


def pack_module(module: nn.Module, pack: PackLinear) -> None:
    """Pack every linear below `module`, in place."""
    packs_itself = getattr(module, "pack_weights", None)
    if packs_itself is not None:
        packs_itself(pack)
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, pack(child.weight, child.bias))
        else:
            pack_module(child, pack)
