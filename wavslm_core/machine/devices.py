"""Which device a name means on this machine, the same for recipes (`launch.device`) and for `--device`, and
how much memory it has.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from wavslm_core.errors import WavslmError, did_you_mean

if TYPE_CHECKING:
    import torch

AUTO = "auto"
KINDS = (AUTO, "cpu", "cuda", "mps")


def choose_device(name: str, *, option: str, cpu_only: str | None = None, alone: bool = True) -> torch.device:
    """Return the device that a name means here; `auto`: the first CUDA GPU that PyTorch sees, else the CPU.

    `option` is what gave the name, and `cpu_only` names another that works on the CPU alone: `auto` is the
    CPU then. Apple's GPU is used only where it is asked for by name: it has no float64, which training
    computes in, and nothing was tried on it. Not `alone`, several processes want a device each, and it is
    only one.
    Raises: WavslmError for what is no device, is not there, or does not go with that option.
    """
    import torch

    kind, _, place = name.partition(":")
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        hint = did_you_mean(kind, KINDS) if kind not in KINDS else ""
        raise WavslmError(f"{option} {name} is no device.{hint} Allowed: auto, cpu, cuda, cuda:0, … or mps")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    apple = torch.backends.mps.is_available() and alone
    if name == AUTO:
        return torch.device("cuda" if gpus and cpu_only is None else "cpu")
    if cpu_only is not None and kind != "cpu":
        raise WavslmError(f"{cpu_only} works on the CPU only, but {option} is {name}. Leave one of them out")
    there = kind == "cpu" or (kind == "mps" and apple)
    if not there and not (kind == "cuda" and int(place or 0) < gpus):
        usable = ["auto", "cpu", *(f"cuda:{index}" for index in range(gpus)), *(["mps"] if apple else [])]
        raise WavslmError(f"{option} is {name}, but PyTorch sees none here. Usable: {', '.join(usable)}")
    return torch.device(name)


CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""What a container may use."""


def memory_bytes(device: torch.device) -> int | None:
    """Return how much memory a device of this machine has, or this container may use; None if not known."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    found: list[int] = []
    with suppress(OSError, ValueError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in CGROUP_LIMITS:
        # "max" where there is no limit.
        with suppress(OSError, ValueError):
            found.append(int(path.read_text()))
    return min(found, default=None)
