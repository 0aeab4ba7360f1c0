"""Losses that are not finite: skipped one by one, an error when they come in a row."""

from __future__ import annotations

from wavslm_core.errors import WavslmError

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
