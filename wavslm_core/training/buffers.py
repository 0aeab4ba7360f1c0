"""Buffers that learn, such as a codebook of moving averages, when several processes train one model."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import nn

from wavslm_core.machine.processes import Processes
from wavslm_core.training.guard import TrainingError

TOLERANCE = 1e-4
"""Sums that different machines form differ by less; codebooks that drift apart, by far more."""


def check_buffers(modules: Mapping[str, nn.Module], processes: Processes) -> None:
    """Make sure that all processes have the same buffers. Raises: TrainingError naming those that differ."""
    if processes.world_size == 1:
        return
    own = {
        f"{name}.{key}": float(buffer.double().sum())
        for name, module in modules.items()
        for key, buffer in module.named_buffers()
        if not buffer.is_complex()
    }
    all_sums = processes.gather(own)
    differing = [
        key
        for key, value in own.items()
        if not all(
            math.isclose(value, sums[key], rel_tol=TOLERANCE, abs_tol=TOLERANCE) or value != value
            for sums in all_sums
        )
    ]
    if differing:
        raise TrainingError(
            f"the buffer {differing[0]} is not the same in all processes: it learns from each one's own part "
            "of a batch alone. Train this stage with one process, freeze the part, or let it learn from "
            "`wavslm_core.plugin.all_rows`"
        )
