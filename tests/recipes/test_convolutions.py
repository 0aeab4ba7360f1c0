"""Every convolution of every shipped recipe, at its own size, against itself in float64."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.streaming import CausalConv1d
from wavslm_core.recipe.loading import load_recipe
from wavslm_core.recipe.model import Recipe
from wavslm_core.recipe.resolving import resolve

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
FRAMES = (4, 60)
"""A streaming step, and a crop: other kernels run for each."""
Key = tuple[Any, ...]


def part_sets(recipe: Recipe) -> Iterator[dict[Any, Any]]:
    """Yield the parts of a recipe, and of its sweep's trials."""
    from wavslm_core.sweep.expansion import expand_sweep

    if recipe.sweep is None:
        yield dict(resolve(recipe).part_configs)
    else:
        for trial in expand_sweep(recipe):
            yield dict(trial.recipe.part_configs)


def convolutions() -> dict[Key, tuple[str, nn.Module]]:
    """Return one convolution of each kind and size, without weights, and where it was found first."""
    found: dict[Key, tuple[str, nn.Module]] = {}
    seen: set[str] = set()
    for path in RECIPES:
        for configs in part_sets(load_recipe(path)):
            for role, config in configs.items():
                if repr(config) in seen:
                    continue
                seen.add(repr(config))
                with torch.device("meta"):
                    part = load_registry().build(config)
                if not isinstance(part, nn.Module):
                    continue
                for name, module in part.named_modules():
                    if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
                        sizes = (module.weight.shape, module.groups, module.stride)
                        key = (type(module), *sizes, getattr(module, "causal", None))
                        found.setdefault(key, (f"{path.name}: {role}.{name}", module))
    return found


def in_float64(conv: nn.Module) -> nn.Module:
    """Return a copy that computes in float64, sequences by the definition instead of by our short cuts."""
    exact = copy.deepcopy(conv).double()
    if isinstance(exact, CausalConv1d):
        weight_GOIK, bias = exact.weight.unflatten(0, (exact.groups, -1)), exact.bias
        kernel, groups = exact.kernel_size[0], exact.groups

        def convolve(x_BTD: Tensor) -> Tensor:
            windows_BTGIK = x_BTD.unfold(1, kernel, 1).unflatten(2, (groups, -1))
            y_BTD = torch.einsum("btgik,goik->btgo", windows_BTGIK, weight_GOIK).flatten(2)
            return y_BTD if bias is None else y_BTD + bias

        exact.convolve = convolve  # type: ignore[method-assign]
    return exact


@pytest.mark.slow
def test_convolutions_of_every_recipe_are_right_in_both_precisions() -> None:
    pytest.importorskip("wavslm_wavlm")
    pytest.importorskip("wavslm_focalcodec_stream")
    found = convolutions()
    # The positional convolution of the small recipe: eight channels a group, wrong in kernels of some CPUs.
    assert any(key[1] == torch.Size([128, 8, 16]) for key in found)
    wrong = []
    for where, planned in found.values():
        torch.manual_seed(0)
        conv = planned.to_empty(device="cpu")
        with torch.no_grad():
            for parameter in conv.parameters():
                parameter.normal_(std=parameter[0].numel() ** -0.5)
        exact = in_float64(conv)
        for frames in FRAMES:
            x_BTD = torch.randn(1, frames * conv.stride[0] + conv.kernel_size[0], conv.in_channels)
            with torch.no_grad():
                wanted = exact(x_BTD.double())
                for bf16, limit in ((False, 1e-5), (True, 0.02)):
                    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                        given = conv(x_BTD)
                    error = float((given.double() - wanted).norm() / wanted.norm())
                    if not error < limit:
                        wrong.append(f"{where}, {frames} frames, {'bf16' if bf16 else 'fp32'}: {error:.1%}")
    assert not wrong, "\n".join(wrong)
