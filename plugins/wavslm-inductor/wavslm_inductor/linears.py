"""Linears as compiled steps have them: loops for few weights, oneDNN's layout or int8 for more."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Literal
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

from wavslm_core.plugin import PackLinear
from wavslm_inductor.kernels import FEW_ROWS

OUTPUTS, INPUTS = 16, 4
"""Of an int8 linear, which lie together in memory (`kernels.cpp`)."""
MOST_INPUTS = 66_000
"""Of an int8 linear: sums of more products of bytes would pass 32 bits (`kernels.cpp`)."""


class CompiledInt8Linear(nn.Module):
    """A linear with int8 weights, one scale an output, and each row of activations rounded to 256 steps.

    Sums are exact, so that weights have 8 bits on every CPU. Bias and GELU are compiled.
    """

    packed: Tensor
    scales: Tensor
    sums: Tensor

    def __init__(self, weight_NK: Tensor, bias_N: Tensor | None, *, gelu: bool) -> None:
        super().__init__()
        weight_NK = weight_NK.detach().float()
        self.gelu = gelu
        self.bias = None if bias_N is None else bias_N.detach().float()
        self.scales = weight_NK.abs().amax(dim=1).clamp(min=1e-12) / 127
        rounded_NK = (weight_NK / self.scales[:, None]).round()
        self.sums = rounded_NK.sum(dim=1, dtype=torch.float64).to(torch.int32)
        outputs, inputs = weight_NK.shape
        rounded_NK = F.pad(rounded_NK, (0, -inputs % INPUTS, 0, -outputs % OUTPUTS))
        blocks = rounded_NK.to(torch.int8).unflatten(1, (-1, INPUTS)).unflatten(0, (-1, OUTPUTS))
        self.packed = blocks.transpose(1, 2).flatten(2).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        operator = torch.ops.wavslm_inductor.int8_linear
        y: Tensor = operator(x.float().contiguous(), self.packed, self.scales, self.sums)
        if self.bias is not None:
            y = y + self.bias
        return (F.gelu(y) if self.gelu else y).to(x.dtype)


class PackOnce(PackLinear):
    """Lays weights out once for all steps that read them, as long as one of those is there.

    Few weights stay as they are, in int8, too: a loop over them costs less than to round what they multiply.
    """

    def __call__(
        self, weight_NK: Tensor, bias_N: Tensor | None, *, activation: Literal["none", "gelu"] = "none"
    ) -> nn.Module:
        linear = self._made(weight_NK, bias_N, activation)
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

    def _made(
        self, weight_NK: Tensor, bias_N: Tensor | None, activation: Literal["none", "gelu"]
    ) -> nn.Module:
        if self.weights != "int8":
            return super().__call__(weight_NK, bias_N, activation=activation)
        if weight_NK.numel() <= self.few or weight_NK.shape[1] > MOST_INPUTS:
            return PackLinear("fp32", few=self.few)(weight_NK, bias_N, activation=activation)
        return CompiledInt8Linear(weight_NK, bias_N, gelu=activation == "gelu")


Laid = tuple[tuple[str, int] | None, Callable[[], Tensor | None]]
_LAID_OUT: MutableMapping[Tensor, Laid] = WeakIdKeyDictionary()
"""Weights to what they were packed as, of which version, and the packed ones, held by the steps alone."""


def laid_out_plainly(module: nn.Module) -> dict[str, Tensor]:
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


def linear(x: Tensor, weight_NK: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """Return a linear; of few rows as a loop over its weights, as to call a product costs more."""
    if x.numel() // x.shape[-1] > FEW_ROWS:
        y = x @ weight_NK.mT
    else:
        # Taken as it lies in memory, so that what makes it is not made anew for every output.
        lying = x.contiguous()
        lying = lying.as_strided(lying.shape, lying.stride())
        y = (lying.unsqueeze(-2) * weight_NK).sum(dim=-1)
    return y if bias_N is None else y + bias_N
