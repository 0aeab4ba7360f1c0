"""Fast inference on CPUs: the linears of a model, packed for few rows at a time.

Streaming is bound by memory: a step reads every weight once for a handful of rows. Packing lays weights out
for that (fp32, unless they are few), or makes them smaller (bf16, int8 with one scale a row). Measured on
one core with four rows, relative to `nn.Linear`: fp32 1.5 times, bf16 2.7 times and int8 5.3 times as fast.
(A layer norm without its affine part is no faster, so that part is not folded into the linear after it.)

Linears are found by themselves. `LinearGelu` says that a GELU follows, so that packing makes one operation
of both. A module that keeps weights elsewhere (a convolution) takes part by defining
`pack_weights(pack: PackLinear) -> None`, which makes `pack(weight, bias)` modules of them. One that can make
several products in one does so in `join_products() -> None`, which leaves linears, and is called first, for
engines too.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.errors import CheckpointError, WavslmError, did_you_mean

Activation = Literal["none", "gelu"]

ModuleT = TypeVar("ModuleT", bound=nn.Module)

ROWS_HINT = 4
"""Rows that the fp32 and bf16 layouts are made for; other numbers work too."""
FEW_WEIGHTS = 1 << 17
"""Up to this many in fp32, a linear costs less in torch's own product than oneDNN's layout saves."""


class LinearGelu(nn.Linear):
    """A linear and the exact GELU after it; parameters as in `nn.Linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return F.gelu(super().forward(input))


class OneDnnLinear(nn.Module):
    """A linear whose weight lies in oneDNN's own blocked layout, in fp32 or bf16; fp32 in and out.

    That layout has no storage that could be copied or pickled: it is undone for that, and made again. CPUs
    that oneDNN has no bf16 for (x86 without AVX-512 or AVX-NE-CONVERT) multiply the rounded weights in fp32.
    """

    def __init__(
        self, weight_NK: Tensor, bias_N: Tensor | None, *, dtype: torch.dtype, activation: Activation = "none"
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = weight_NK.shape
        emulated = dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
        self.dtype = torch.float32 if emulated else dtype
        weight_NK = weight_NK.detach().to(dtype).to(self.dtype)
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight_NK, ROWS_HINT)
        self.bias = None if bias_N is None else bias_N.detach().to(dtype).to(self.dtype)
        self.activation = activation

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "packed": self.packed.to_dense()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.packed = torch.ops.mkldnn._reorder_linear_weight(state["packed"], ROWS_HINT)

    def forward(self, x: Tensor) -> Tensor:
        # The last argument names the approximation of the GELU: none, as in `F.gelu`.
        y: Tensor = torch.ops.mkldnn._linear_pointwise(
            x.to(self.dtype), self.packed, self.bias, self.activation, [], "none"
        )
        return y.to(x.dtype)


class Int8Linear(nn.Module):
    """A linear with int8 weights, one scale an output, and activations quantised to 8 bits on the fly.

    On CPUs without VNNI weights take 7 bits, since sums of two 8-bit products overflow 16 bits there (errors
    of 10 to 50 %). Activations could do so instead, but their outliers share one scale. The layout belongs to
    the kernel that was chosen, so a copy takes the weights along and lays them out again.
    """

    def __init__(
        self,
        weight_NK: Tensor,
        bias_N: Tensor | None,
        *,
        activation: Activation = "none",
        kernel: str | None = None,
    ) -> None:
        """`kernel`: one of `int8_kernels()`; what torch takes itself unless given."""
        super().__init__()
        self.out_features, self.in_features = weight_NK.shape
        self.activation = activation
        self.kernel = kernel or str(torch.backends.quantized.engine)
        weight = weight_NK.detach().float()
        largest = 127 if torch.cpu._is_vnni_supported() else 63
        scales = weight.abs().amax(dim=1).clamp(min=1e-12) / largest
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        with warnings.catch_warnings():
            # Announced as deprecated; there is no other public way to int8 products with dynamic activations.
            warnings.simplefilter("ignore")
            quantized = torch.quantize_per_channel(weight, scales.double(), zeros, 0, torch.qint8)
        self.packed = self._pack(quantized, None if bias_N is None else bias_N.detach().float())

    def _pack(self, quantized: Tensor, bias: Tensor | None) -> Any:
        """Lay weights out for the kernel, which torch takes from a setting of the process."""
        before = torch.backends.quantized.engine
        torch.backends.quantized.engine = self.kernel
        try:
            return torch.ops.quantized.linear_prepack(quantized, bias)
        finally:
            torch.backends.quantized.engine = before

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "packed": torch.ops.quantized.linear_unpack(self.packed)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.packed = self._pack(*state["packed"])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.quantized.linear_dynamic(x.float(), self.packed)
        return (F.gelu(y) if self.activation == "gelu" else y).to(x.dtype)


def int8_kernels() -> list[str]:
    """Return what torch can multiply int8 weights with on this CPU; where not x86, what it takes itself."""
    there = torch.backends.quantized.supported_engines
    known: list[str] = [name for name in ("fbgemm", "onednn") if name in there]
    return known if "fbgemm" in known else [str(torch.backends.quantized.engine)]


@dataclass(frozen=True)
class PackLinear:
    """Makes packed linears with one kind of weights."""

    weights: str
    kernel: str | None = None
    """Of int8 weights, one of `int8_kernels()`; none: what torch takes itself."""
    few: int = FEW_WEIGHTS
    """fp32 linears of up to so many weights stay torch's own."""

    def __call__(
        self, weight_NK: Tensor, bias_N: Tensor | None, *, activation: Activation = "none"
    ) -> nn.Module:
        """Return a module that maps (…,K) to (…,N), with the exact GELU after it if asked for."""
        if self.weights == "int8":
            return Int8Linear(weight_NK, bias_N, activation=activation, kernel=self.kernel)
        if self.weights == "fp32" and weight_NK.numel() <= self.few:
            return _plain(weight_NK, bias_N, activation=activation)
        dtype = torch.bfloat16 if self.weights == "bf16" else torch.float32
        return OneDnnLinear(weight_NK, bias_N, dtype=dtype, activation=activation)

    @property
    def finer(self) -> PackLinear:
        """The next finer kind (int8, bf16, fp32), for weights whose error everything after them amplifies."""
        kinds = list(PACKERS)
        return PackLinear(kinds[max(0, kinds.index(self.weights) - 1)], few=self.few)


def _plain(weight_NK: Tensor, bias_N: Tensor | None, *, activation: Activation) -> nn.Linear:
    """Return a linear over the very tensors."""
    kind = LinearGelu if activation == "gelu" else nn.Linear
    linear = kind(weight_NK.shape[1], weight_NK.shape[0], bias=bias_N is not None, device="meta")
    linear.weight = nn.Parameter(weight_NK.detach(), requires_grad=False)
    if bias_N is not None:
        linear.bias = nn.Parameter(bias_N.detach(), requires_grad=False)
    return linear


PACKERS = {weights: PackLinear(weights) for weights in ("fp32", "bf16", "int8")}
"""The kinds of packed weights, the finest first."""


def packed_copy(
    module: ModuleT, *, weights: str, kernel: str | None = None, few: int = FEW_WEIGHTS
) -> ModuleT:
    """Return a copy for inference whose linears are packed; everything else is shared with the original.

    `kernel`: of int8 weights, one of `int8_kernels()`; what torch takes itself unless given. `few`: fp32
    linears of up to so many weights stay as they are; 0 packs all.
    Raises: WavslmError for unknown `weights`, a model that is packed already, or one that is not on the CPU.
    """
    device = device_type(module)
    if device != "cpu":
        raise not_for_gpus(device)
    if weights not in PACKERS:
        raise WavslmError(
            f"weights='{weights}' is not a kind of packed weights; allowed: {', '.join(PACKERS)}."
            + did_you_mean(weights, PACKERS)
        )
    packed = inference_copy(module)
    pack_module(packed, replace(PACKERS[weights], kernel=kernel, few=few))
    mark_packed(packed, weights)
    return packed


def inference_copy(module: ModuleT) -> ModuleT:
    """Return a copy in eval mode that shares all weights with the original.

    Raises: WavslmError for a model that is packed already.
    """
    held = next((part.packed_weights for part in module.modules() if hasattr(part, "packed_weights")), None)
    if held is not None:
        raise WavslmError(f"the model is packed as {held} already; pack the one that it was made from")
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, memo={id(tensor): tensor for tensor in tensors}).eval()


def device_type(*modules: nn.Module) -> str:
    """Return the type of the device that modules are on; the CPU for those without tensors.

    Raises: WavslmError where they are on several.
    """
    tensors = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
    found = {tensor.device.type for tensor in tensors} or {"cpu"}
    if len(found) > 1:
        raise WavslmError(
            f"the model is on {' and '.join(sorted(found))}; move all of it to one device with .to(…)"
        )
    return found.pop()


def not_for_gpus(device: str) -> WavslmError:
    """Return what is wrong with packing a model there."""
    return WavslmError(
        f"packed inference is for the CPU, the model is on {device}. Move it with .to('cpu'), or use it as "
        "it is, or give an engine for it"
    )


def mark_packed(module: nn.Module, weights: str) -> None:
    """Let a model be known as one for inference alone, with weights of that kind."""
    for part in module.modules():
        part.packed_weights = weights  # type: ignore[assignment]


def refuse_packed(*modules: nn.Module) -> None:
    """Raises: CheckpointError when a module is a packed copy, whose weights cannot be saved."""
    if any(hasattr(module, "packed_weights") for module in modules):
        raise CheckpointError(
            "a model packed by for_inference() cannot be saved; save the model that it was made from"
        )


def join_products(module: nn.Module) -> None:
    """Let a module and all below it make several products in one where they can, in place."""
    for part in module.modules():
        _join(part)


def _join(module: nn.Module) -> None:
    joins = getattr(module, "join_products", None)
    if joins is not None:
        joins()


def pack_module(module: nn.Module, pack: PackLinear) -> None:
    """Pack every linear below `module`, in place."""
    _join(module)
    packs_itself = getattr(module, "pack_weights", None)
    if packs_itself is not None:
        packs_itself(pack)
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, pack(child.weight, child.bias))
        elif type(child) is LinearGelu:
            setattr(module, name, pack(child.weight, child.bias, activation="gelu"))
        else:
            pack_module(child, pack)
