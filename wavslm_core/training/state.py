"""Where a training run stands: everything but the weights that a checkpoint must hold."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from pydantic import TypeAdapter

from wavslm_core.training.device import ChosenPrecision


@dataclass
class TrainState:
    """Counts optimizer steps that are done."""

    step: int = 0
    validated_step: int = 0
    """Step of the last validation: one that is due but did not happen yet is made after a resume."""
    shown_step: int = 0
    valid: dict[str, float] = field(default_factory=dict)
    """Scalars of the last validation."""
    best_step: int | None = None
    best_valid: dict[str, float] = field(default_factory=dict)
    """Scalars of the validation with the lowest loss."""
    selected_step: int = 0
    """Step whose weights the stage left behind; set at the end."""
    skipped: int = 0
    skipped_in_a_row: int = 0
    losses: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Player → sum of its losses since the last logged line, and over how many steps."""
    stuck_since: dict[str, int] = field(default_factory=dict)
    """Player that is of no use to the others → the logged step from which on."""
    tokens: int = 0
    seconds: float = 0.0
    """Time spent in training steps, in all processes that worked on the run."""
    precision: ChosenPrecision | None = None
    """Chosen before the first step; a run that goes on where the same kernels run keeps it."""

    @property
    def mark(self) -> tuple[int, int, int]:
        """What two checkpoints of the same step can differ in."""
        return self.step, self.validated_step, self.shown_step

    def due(self, every: int, *, steps: int) -> bool:
        """Return whether something that happens every so many steps, and after the last, is due."""
        return self.step > 0 and (self.step % every == 0 or self.step == steps)

    def observe(self, valid: dict[str, float]) -> bool:
        """Take note of a validation; return whether it is the best so far."""
        self.valid = valid
        self.validated_step = self.step
        # Written so that a NaN loss is never the best.
        if self.best_step is not None and not valid["loss"] < self.best_valid["loss"]:
            return False
        if valid["loss"] != valid["loss"]:
            return False
        self.best_step, self.best_valid = self.step, valid
        return True

    def add_loss(self, player: str, loss: float) -> None:
        """Take note of a player's loss."""
        total, count = self.losses.get(player, (0.0, 0))
        self.losses[player] = total + loss, count + 1

    def take_mean_loss(self, player: str) -> float:
        """Return the mean of a player's losses since this was last asked; NaN without any."""
        total, count = self.losses.pop(player, (0.0, 0))
        return total / count if count else math.nan

    def results(self) -> dict[str, Any]:
        """Return what a training stage reports of itself, once weights are selected."""
        is_best = self.selected_step == self.best_step
        return {
            "steps": self.step,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
            "tokens_per_s": round(self.tokens / max(self.seconds, 1e-9), 1),
            "skipped_steps": self.skipped,
            "selected_step": self.selected_step,
            "valid": self.best_valid if is_best else self.valid,
            "valid_last": self.valid,
            "precision": None if self.precision is None else asdict(self.precision),
        }

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Self:
        """Undo `state_dict`. Raises: TypeError, ValueError, KeyError for what it does not give."""
        if "loss_sum" in state:
            # What was written when there was but one player.
            state = dict(state)
            state["losses"] = {"": (state.pop("loss_sum"), state.pop("loss_count"))}
        return TypeAdapter(cls).validate_python(asdict(cls(**state)))
