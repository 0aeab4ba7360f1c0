"""Runs as they are compared, from best to worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavslm_core.recipe.sweep_metric import Metric
from wavslm_core.recipe.sweep_space import trial_label


@dataclass(frozen=True)
class Result:
    """A run as it is compared."""

    variant: str
    settings: Mapping[str, Any]
    seed: int | None
    folder: Path
    status: str
    """How it does, in one word; `finished` and `pruned` count as results."""
    error: str | None = None
    """First line of what went wrong."""
    adopted: str | None = None
    """Stages taken over from another run, in words."""
    value: float | None = None
    """What ranks it: the metric, of a trial that has not finished as far as it came."""

    @property
    def label(self) -> str:
        return trial_label(self.variant, self.seed)


def rank(results: Sequence[Result], metric: Metric | None) -> tuple[Result, ...]:
    """Return runs from best to worst: finished ones by the metric, then those that were stopped for being
    behind, then others, of each kind those without a number last; in the order given where nothing tells
    them apart.
    """
    sign = -1.0 if metric is not None and not metric.lower_is_better else 1.0

    def place(result: Result) -> tuple[int, bool, float]:
        state = {"finished": 0, "pruned": 1}.get(result.status, 2)
        if metric is None or result.value is None:
            return state, True, 0.0
        return state, False, sign * result.value

    return tuple(sorted(results, key=place))
