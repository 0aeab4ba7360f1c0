"""What a stage trains with: the arithmetic, the memory that it takes, and the random numbers.

Arithmetic is bf16 where that was proven on the stage's parts, else fp32. Only training is ever computed in
bf16: what validates, is selected, shown and shipped is fp32. fp16 is left out on purpose: it needs loss
scaling, and CPUs have no kernels worth using for it.

Randomness is stateless: what is drawn at a step follows from the seed and the step, not from history. So
nothing random has to be saved, and a run that was killed sees the same dropout and crops again.
"""

from __future__ import annotations

import logging
import math
import platform
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from wavslm_core.machine.processes import ALONE, Processes
from wavslm_core.training.guards import TrainingError
from wavslm_core.training.precision_proof import Arithmetic, PrecisionProof

logger = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "bf16"]
BF16_UNITS = {"AVX512-BF16": "_is_avx512_bf16_supported", "AMX": "_is_amx_tile_supported"}
"""No public query covers every torch from 2.6 on; on other architectures these are False."""


def multiplies_bf16(device: torch.device) -> bool:
    """Return whether the device claims to multiply bf16: CPUs with AVX512-BF16 or AMX, GPUs since Ampere."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return any(getattr(torch.cpu, query, lambda: False)() for query in BF16_UNITS.values())
    return False


def describe_arithmetic(device: torch.device) -> str:
    """Return what decides which kernels run: where this is the same, so is what was proven."""
    if device.type == "cuda":
        return f"torch {torch.__version__} on {torch.cuda.get_device_name(device)}"
    units = [unit for unit, query in BF16_UNITS.items() if getattr(torch.cpu, query, lambda: False)()]
    kind = " ".join([platform.machine(), torch.backends.cpu.get_cpu_capability(), *units])
    return f"torch {torch.__version__} on {device.type} {kind}"


@dataclass(frozen=True)
class ChosenPrecision:
    """In which arithmetic a stage trains, and why."""

    trained: Arithmetic
    why: str
    on: str = ""
    """See `describe_arithmetic`."""
    proof: list[dict[str, Any]] = field(default_factory=list)
    """The rows of the proof, if there was one."""
    validated: Arithmetic = "fp32"

    def __str__(self) -> str:
        return f"training in {self.trained} ({self.why}), validation in {self.validated}"


def choose_precision(
    asked: Precision,
    device: torch.device,
    *,
    proofs: Callable[[], Iterable[PrecisionProof]],
    known: ChosenPrecision | None = None,
    processes: Processes = ALONE,
) -> ChosenPrecision:
    """Return in which arithmetic to train; `known` is what was chosen before an interruption.

    A run goes on as it began, bit for bit, where the same kernels run; elsewhere it is chosen anew. All
    processes choose the same. Raises: TrainingError when bf16 was asked for and is wrong here.
    """
    here = ", ".join(sorted(set(processes.gather(describe_arithmetic(device)))))
    if known is not None and known.on == here:
        return known
    if asked == "fp32":
        return ChosenPrecision("fp32", "as asked", here)
    if asked == "auto" and processes.any(not multiplies_bf16(device)):
        return ChosenPrecision("fp32", "this device does not multiply bf16", here)
    rows: list[dict[str, Any]] = []
    try:
        for proof in proofs():
            rows += proof.to_dicts()
            found = proof.culprit
            if found is not None and asked == "bf16":
                raise TrainingError(
                    f"precision: bf16 was asked for, but {found} on this machine ({here}). "
                    "Set `precision: fp32`, or `auto`, which takes bf16 only where it is right"
                )
            if found is not None:
                logger.warning("%s in bf16 (%s): training in fp32 instead", found, here)
                return ChosenPrecision("fp32", f"bf16 is wrong here: {found}", here, rows)
    except torch.OutOfMemoryError:
        if processes.world_size > 1:
            raise
        # What training would do then fits perhaps, and fp32 does not.
        logger.warning("a batch does not fit into memory in fp32: training in bf16 without a proof")
        return ChosenPrecision("bf16", "not proven: a batch does not fit into memory in fp32", here, rows)
    worst = max((row["error"] for row in rows), default=math.nan)
    why = f"as right as rounding allows: at most {worst:.1%} from fp32"
    return ChosenPrecision("bf16", why, here, rows)


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


def seed_from(*key: int | str) -> int:
    """Return a 63-bit seed that depends on every part of the key, and on their order."""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
    state: Any = np.random.SeedSequence(words).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def seed_torch(*key: int | str) -> None:
    """Seed torch's global generators, GPUs included, from a key."""
    seed = seed_from(*key)
    if _has_accelerator():
        torch.manual_seed(seed)
    else:
        # The same, but for what torch notes down each time for GPUs that are not there: a millisecond.
        torch.default_generator.manual_seed(seed)


@cache
def _has_accelerator() -> bool:
    return torch.accelerator.is_available()
