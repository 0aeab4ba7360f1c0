"""What must hold while training: losses are finite, and all processes have the same buffers.

Buffers that learn, such as a codebook of moving averages, could drift apart when several processes train one
model. Losses that are not finite are skipped one by one, an error when they come in a row. A player that is
of no use to the others is warned of, an error when it stays so.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from torch import nn

from wavslm_core.errors import WavslmError
from wavslm_core.machine.processes import Processes

logger = logging.getLogger(__name__)

MOST_IN_A_ROW = 10


class TrainingError(WavslmError):
    """Training cannot go on as configured."""


class NonFiniteGuard:
    """Counts steps whose loss or gradient was not finite."""

    def __init__(self, *, total: int = 0, in_a_row: int = 0) -> None:
        self.total = total
        self.in_a_row = in_a_row

    def passed(self) -> None:
        """Take note of a step that was finite."""
        self.in_a_row = 0

    def skipped(self, step: int, *, player: str, loss: float, gradient_norm: float, batch: str) -> None:
        """Take note of a step that a player skipped. Raises: TrainingError at the tenth in a row."""
        self.total += 1
        self.in_a_row += 1
        if self.in_a_row >= MOST_IN_A_ROW:
            of = f" of {player}" if player else ""
            raise TrainingError(
                f"the loss{of} was not finite in {MOST_IN_A_ROW} steps in a row, the last at step {step} "
                f"(loss {loss}, gradient norm {gradient_norm}, batch: {batch or 'not named'}). Weights and "
                "checkpoints from before are kept. Lower `lr`, raise `warmup_steps`, set `precision: fp32`, "
                "or check this batch's data."
            )


SAID_AFTER = 200
"""Steps for which a player must be stuck to be called so: discriminators know nothing in their first."""


class StuckGuard:
    """Says when a player is of no use to the others, and ends training when that lasts."""

    def __init__(self, since: dict[str, int]) -> None:
        """`since`: player → step from which on it has been stuck; written to."""
        self._since = since
        self._said: set[str] = set()

    def observe(self, step: int, player: str, why: str | None, *, most_steps: int | None, says: bool) -> None:
        """Take note of why a player is stuck, if it is; with `says`, warn.

        Raises: TrainingError when it has been for `most_steps` after the warning.
        """
        if why is None:
            self._since.pop(player, None)
            self._said.discard(player)
            return
        lasts = step - self._since.setdefault(player, step)
        told = f"from step {step - lasts} to step {step}, {why}"
        if most_steps is not None and lasts >= SAID_AFTER + most_steps:
            raise TrainingError(f"{told}. Weights and checkpoints from before are kept.")
        if lasts >= SAID_AFTER and player not in self._said:
            self._said.add(player)
            if says:
                logger.warning("%s", told)


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
