"""The option `--device` of the verbs that compute."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from wavslm_core.errors import WavslmError, did_you_mean

if TYPE_CHECKING:
    import torch

AUTO = "auto"
KINDS = (AUTO, "cpu", "cuda", "mps")

DeviceOption = Annotated[
    str, typer.Option("--device", help="auto (the first GPU, else the CPU), cpu, cuda, cuda:1, … or mps.")
]


def usable_device(name: str, *, cpu_only: str | None = None) -> torch.device:
    """Return the device that `--device NAME` means on this machine.

    `cpu_only` names an option that works on the CPU alone: `auto` is the CPU then.
    Raises: WavslmError for what is no device, is not there, or does not go with that option.
    """
    import torch

    kind, _, place = name.partition(":")
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        hint = did_you_mean(kind, KINDS) if kind not in KINDS else ""
        raise WavslmError(f"--device {name} is no device.{hint} Allowed: auto, cpu, cuda, cuda:0, … or mps")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == AUTO:
        return torch.device("cuda" if gpus and cpu_only is None else "cpu")
    if cpu_only is not None and kind != "cpu":
        raise WavslmError(f"{cpu_only} works on the CPU only, but --device is {name}. Leave one of them out")
    there = kind == "cpu" or (kind == "mps" and torch.backends.mps.is_available())
    if not there and not (kind == "cuda" and int(place or 0) < gpus):
        usable = ["auto", "cpu", *(f"cuda:{index}" for index in range(gpus))]
        usable += ["mps"] if torch.backends.mps.is_available() else []
        raise WavslmError(f"--device is {name}, but PyTorch sees none here. Usable: {', '.join(usable)}")
    return torch.device(name)
