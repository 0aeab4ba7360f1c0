"""The option `--device` of the verbs that compute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wavslm_core.machine.devices import AUTO, choose_device

if TYPE_CHECKING:
    import torch

__all__ = ["AUTO", "DeviceOption", "usable_device"]

DeviceOption = Annotated[
    str,
    typer.Option(
        "--device", help="auto (the first CUDA GPU, else the CPU), cpu, cuda, cuda:1, … or mps (untried)."
    ),
]


def usable_device(name: str, *, cpu_only: str | None = None) -> torch.device:
    """Return the device that `--device NAME` means here; see `choose_device`. Raises: WavslmError."""
    return choose_device(name, option="--device", cpu_only=cpu_only)
