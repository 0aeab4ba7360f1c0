"""Learning-rate schedules: a factor on the peak rate, after a linear warm-up.

Everything but the plateau is a pure function of the step; the plateau keeps what it has seen in a small
state that goes into the checkpoint.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

from wavslm_core.training.config import OptimizerConfig


class Schedule(ABC):
    """Factor on the peak learning rate, over `steps` optimizer steps."""

    def __init__(self, config: OptimizerConfig, *, steps: int) -> None:
        self.config = config
        self.steps = steps

    def factor(self, step: int) -> float:
        """Return the factor for optimizer step `step` (from 0); the warm-up ends with exactly 1."""
        if step < self.config.warmup_steps:
            return (step + 1) / self.config.warmup_steps
        return self.factor_after_warmup(step - self.config.warmup_steps)

    @abstractmethod
    def factor_after_warmup(self, step: int) -> float:
        """Return the factor `step` steps after the warm-up."""

    def observe(self, validation_loss: float) -> None:
        """Take note of a validation loss."""
        return None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        return None


class Constant(Schedule):
    """The peak rate throughout."""

    def factor_after_warmup(self, step: int) -> float:
        return 1.0


class Cosine(Schedule):
    """Half a cosine from the peak down to `min_lr_ratio` of it at the last step."""

    def factor_after_warmup(self, step: int) -> float:
        last = max(1, self.steps - self.config.warmup_steps - 1)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / last)))
        return self.config.min_lr_ratio + (1 - self.config.min_lr_ratio) * cosine


class Exponential(Schedule):
    """By equal factors from the peak down to `min_lr_ratio` of it at the last step."""

    def factor_after_warmup(self, step: int) -> float:
        last = max(1, self.steps - self.config.warmup_steps - 1)
        return float(self.config.min_lr_ratio ** min(1.0, step / last))


class Plateau(Schedule):
    """Times 0.9 whenever the validation loss gains less than 0.0025 of the one before.

    The gain is relative and compared with the previous validation, not with the best: so "new bob"
    annealing is usually defined, and the WavSLM and FocalCodec-Stream papers name these two numbers.
    """

    ANNEALING = 0.9
    LEAST_GAIN = 0.0025

    def __init__(self, config: OptimizerConfig, *, steps: int) -> None:
        super().__init__(config, steps=steps)
        self._factor = 1.0
        self._previous_loss: float | None = None

    def factor_after_warmup(self, step: int) -> float:
        return self._factor

    def observe(self, validation_loss: float) -> None:
        previous, self._previous_loss = self._previous_loss, validation_loss
        if previous is None:
            return
        gain = (previous - validation_loss) / abs(previous) if previous else 0.0
        # Written so that a NaN loss counts as no gain.
        if not gain >= self.LEAST_GAIN:
            self._factor *= self.ANNEALING

    def state_dict(self) -> dict[str, Any]:
        return {"factor": self._factor, "previous_loss": self._previous_loss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._factor = state["factor"]
        self._previous_loss = state["previous_loss"]


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "cosine": Cosine,
    "exponential": Exponential,
    "plateau": Plateau,
}


def build_schedule(config: OptimizerConfig, *, steps: int) -> Schedule:
    """Return the schedule that the config names."""
    return SCHEDULES[config.schedule](config, steps=steps)
