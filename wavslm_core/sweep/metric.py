"""The number that ranks a trial, read from its run's folder at any time, and how it came about."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wavslm_core.machine.json_files import parse_object
from wavslm_core.machine.regular_files import read_regular
from wavslm_core.recipe.sweep_block import SweepMetric
from wavslm_core.run.metrics_file import METRICS_FILE, number_of, read_metrics

Curve = Sequence[tuple[int, float]]
"""(step, value) of every validation, in order; values may be NaN."""


def validation_curve(run_dir: Path, stage: str, scalar: str) -> Curve:
    """Return what a stage measured while it trained, so far."""
    points = {}
    for line in read_metrics(run_dir / METRICS_FILE, split="valid"):
        if line.get("stage") == stage and scalar in line:
            points[line["step"]] = number_of(line, scalar)
    return sorted(points.items())


def metric_curve(run_dir: Path, metric: SweepMetric, stage: str | None) -> Curve:
    """Return the metric over the steps of the stage that measures it; empty for a metric of `results/`.

    `stage`: its name (`validation_stage`).
    """
    if stage is None or metric.validation is None:
        return ()
    return validation_curve(run_dir, stage, metric.validation[1])


def metric_value(run_dir: Path, metric: SweepMetric, stage: str | None, *, keeps_best: bool) -> float | None:
    """Return what the trial has reached so far; None when there is no number yet.

    Of validations that is the last one, or the best one when the `stage` that measures it keeps the best
    weights.
    """
    if stage is None:
        return _from_results(run_dir, metric.path.split("."))
    curve = metric_curve(run_dir, metric, stage)
    if keeps_best:
        return best_until(curve, math.inf, lower=metric.lower_is_better)
    return _finite(curve[-1][1]) if curve else None


def best_until(curve: Curve, step: float, *, lower: bool) -> float | None:
    """Return the best value up to a step; None when there is none that is a number."""
    values = [value for at, value in curve if at <= step and math.isfinite(value)]
    return (min if lower else max)(values, default=None)


def _from_results(run_dir: Path, keys: Sequence[str]) -> float | None:
    path = run_dir / "stages.json" if keys[0] == "stages" else run_dir / "results" / f"{keys[0]}.json"
    try:
        value: Any = parse_object(read_regular(path))
    except (OSError, ValueError):
        return None
    for key in keys[1:]:
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    # A score with its interval.
    value = value.get("mean") if isinstance(value, dict) else value
    return _finite(float(value)) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
