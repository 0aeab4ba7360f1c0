"""Axes of a sweep that are drawn from a range: `random: {stages.train_lm.lr: {log_uniform: [1e-5, 1e-3]}}`.

The value of a trial follows from the seed, the axis and the number of the draw alone: more trials, or another
axis, change none that were there.
"""

import hashlib
import math
from typing import Any, Literal, Self, get_args

from pydantic import ConfigDict, Field, model_validator

from wavslm_core.errors import did_you_mean
from wavslm_core.parts.configs import Config, Options

Kind = Literal["uniform", "log_uniform", "int_uniform", "log_int", "choice"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DIGITS = 4
"""Significant digits of drawn numbers: enough to search by, and short in tables and folder names."""


class Distribution(Config):
    """Where the values of an axis come from; exactly one of these."""

    uniform: tuple[float, float] | None = None
    """Any number from the first to the second."""
    log_uniform: tuple[float, float] | None = None
    """The same, evenly over orders of magnitude: learning rates."""
    int_uniform: tuple[int, int] | None = None
    """Any whole number from the first to the second, both included."""
    log_int: tuple[int, int] | None = None
    """The same, evenly over orders of magnitude: widths."""
    choice: tuple[Any, ...] | None = None
    """One of these values, blocks included."""

    @model_validator(mode="before")
    @classmethod
    def _is_one(cls, given: Any) -> Any:
        if isinstance(given, cls):
            return given
        if isinstance(given, dict):
            # A resolved recipe spells out what is not set.
            given = {name: value for name, value in given.items() if value is not None}
        names = list(given) if isinstance(given, dict) else []
        if len(names) != 1 or names[0] not in KINDS:
            hint = did_you_mean(str(names[0]), KINDS) if len(names) == 1 else ""
            raise ValueError(
                f"given {given!r}, but an axis is drawn from one of {{uniform: [low, high]}}, log_uniform, "
                f"int_uniform, log_int or {{choice: [value, …]}}.{hint}"
            )
        return given

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.kind == "choice":
            if not self.choice:
                raise ValueError("choice has no values: list at least one")
            return self
        low, high = self.range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"{self.kind} goes from {low:g} to {high:g}: the second must be larger")
        if self.is_log and low <= 0:
            raise ValueError(f"{self.kind} starts at {low:g}, which has no logarithm: start above zero")
        return self

    @property
    def kind(self) -> Kind:
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def is_log(self) -> bool:
        return self.kind in ("log_uniform", "log_int")

    @property
    def is_whole(self) -> bool:
        return self.kind in ("int_uniform", "log_int")

    @property
    def range(self) -> tuple[float, float]:
        """The bounds of anything but a choice."""
        low, high = getattr(self, self.kind)
        return low, high

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values to check before anything runs: both bounds, or every choice."""
        return self.choice if self.choice is not None else self.range

    def at(self, share: float) -> Any:
        """Return the value below which `share`, in [0, 1), of the distribution lies."""
        if self.choice is not None:
            return self.choice[int(share * len(self.choice))]
        low, high = self.range
        if self.is_whole:
            high += 1
        value = low * (high / low) ** share if self.is_log else low + share * (high - low)
        return self.rounded(value)

    def rounded(self, value: float) -> float:
        """Return a number as a recipe gets it: whole, or with a few digits, and within the bounds."""
        low, high = self.range
        if self.is_whole:
            return int(min(max(math.floor(value), low), high))
        return min(max(float(f"{value:.{DIGITS}g}"), low), high)


class RandomAxes(Options):
    """Axes whose values are drawn: `{stages.train_lm.lr: {log_uniform: [1e-5, 1e-3]}, trials: 20}`."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Distribution]

    trials: int = Field(gt=0)
    """How many sets of values: each is combined with the whole grid, or is what optuna tries in all."""
    seed: int = Field(default=0, ge=0)
    """The draws follow from it. Every other key is an override, as on the command line."""

    @property
    def axes(self) -> dict[str, Distribution]:
        """Dotted key → distribution."""
        return dict(self.__pydantic_extra__)

    def draw(self, number: int) -> dict[str, Any]:
        """Return dotted key → value of one draw."""
        return {key: axis.at(share_of(self.seed, key, number)) for key, axis in self.axes.items()}


def share_of(seed: int, key: str, number: int) -> float:
    """Return a number in [0, 1) that follows from its arguments, on any machine."""
    digest = hashlib.sha256(f"{seed} {key} {number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * (1 - 2**-53)
