"""The most memory that a stage held at once: of its GPU, or resident in its process."""

from __future__ import annotations

import re
from pathlib import Path

import torch

CLEAR_REFS = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")
RESET_PEAK = "5"
"""What makes Linux count a process's high-water mark from now on."""


class PeakMemory:
    """Counts from when it is made.

    On a GPU what tensors took there. On a CPU everything that is resident in the process: libraries and what
    earlier stages left too, exact because the kernel keeps the mark. A stage that was interrupted counts from
    where it went on; of several processes, each counts its own.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._known = forget_peak(device)

    def bytes(self) -> int | None:
        """Return the peak so far; None where it cannot be known."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        found = re.search(r"^VmHWM:\s*(\d+) kB$", STATUS.read_text(), re.MULTILINE) if self._known else None
        return None if found is None else 1024 * int(found[1])


def forget_peak(device: torch.device) -> bool:
    """Let every `PeakMemory` of a device count from now on; return whether that is possible."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        CLEAR_REFS.write_text(RESET_PEAK)
    except OSError:
        # Not Linux, or not allowed: the mark would be that of the process's whole life.
        return False
    return True
