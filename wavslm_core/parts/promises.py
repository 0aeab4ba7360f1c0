"""Compares what a part gives with what its facts said, where that costs next to nothing.

Wrong facts show late and far from their cause: as a shape that does not fit the next part, or as tokens that
training cannot look up. Shapes are compared where parts meet, tokens where they leave the codec or the model.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from wavslm_core.errors import PluginError
from wavslm_core.parts.interfaces import Part
from wavslm_core.parts.plugins import load_registry


def check_width(part: Part[Any], x_BTD: Tensor, *, output_dim: int) -> None:
    """Raises: PluginError when features or hidden states are not as wide as the facts say."""
    if x_BTD.ndim != 3 or x_BTD.shape[-1] != output_dim:
        raise _broken(part, f"gave a tensor {list(x_BTD.shape)}", f"say (B, T, output_dim {output_dim})")


def check_samples(part: Part[Any], waveform_BS: Tensor, *, samples: int) -> None:
    """Raises: PluginError when a decoder gives more or fewer samples than its facts say."""
    if waveform_BS.ndim != 2 or waveform_BS.shape[1] != samples:
        raise _broken(part, f"gave a tensor {list(waveform_BS.shape)}", f"make it (B, {samples})")


def check_vocabulary(part: Part[Any], tokens_BT: Tensor, *, vocab_size: int) -> None:
    """Raises: PluginError when tokens are not (B,T) integers inside the codebook that the facts state."""
    if tokens_BT.ndim != 2 or tokens_BT.is_floating_point():
        raise _broken(part, f"gave tokens {list(tokens_BT.shape)} {tokens_BT.dtype}", "ask for (B,T) int64")
    # While torch traces a graph there are no values to look at.
    if tokens_BT.numel() and not torch.compiler.is_compiling():
        low, high = (int(value) for value in tokens_BT.aminmax())
        if low < 0 or high >= vocab_size:
            given = f"gave token {high if high >= vocab_size else low}"
            raise _broken(part, given, f"say vocab_size {vocab_size} (0…{vocab_size - 1})")


def check_losses(part: Part[Any], given: Iterable[str], *, losses: Iterable[str]) -> None:
    """Raises: PluginError when a quantizer gives other losses than its facts say."""
    if set(given) != set(losses):
        listed = [", ".join(sorted(names)) or "none" for names in (given, losses)]
        raise _broken(part, f"gave the losses {listed[0]}", f"say {listed[1]}")


def _broken(part: Part[Any], given: str, expected: str) -> PluginError:
    described = load_registry().described(part.config)
    return PluginError(
        f"{described} {given}, but its facts {expected}. Report it to the authors of that plugin, or use "
        f"another {part.config.role}"
    )
