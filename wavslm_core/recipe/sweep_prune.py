"""When a trial that does worse than others is stopped."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from wavslm_core.parts.configs import Config


class Prune(Config):
    """Stop trials that are worse than most others were after as many steps; they keep their checkpoints.

    A trial is judged after each validation by its best one so far. With `sampler: optuna`, its percentile
    pruner judges instead, which compares with finished trials only.
    """

    after_fraction: float = Field(default=0.25, ge=0, lt=1)
    """Share of the stage's steps that every trial gets."""
    after_steps: int | None = Field(default=None, ge=0)
    """The same in steps."""
    keep: float = Field(default=0.5, gt=0, lt=1)
    """The best share of the trials at a step that goes on: 0.5 stops those worse than the median."""
    min_trials: int = Field(default=4, ge=2)
    """Trials that must have come as far before any is judged, itself included."""

    @model_validator(mode="after")
    def _says_it_once(self) -> Self:
        if self.after_steps is not None and "after_fraction" in self.model_fields_set:
            raise ValueError("after_steps and after_fraction say the same thing: keep one")
        return self

    def first_step(self, steps: int) -> int:
        """Return from which step on a stage of so many steps is judged."""
        return round(self.after_fraction * steps) if self.after_steps is None else self.after_steps
