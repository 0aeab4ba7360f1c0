"""Pictures of what ranks the trials of a sweep, over each of its axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from wavslm_core.plotting import COLOURS, Draw, plain
from wavslm_core.sweep.comparison import Comparison
from wavslm_core.sweep.trial_state import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOG_FROM = 10.0
"""A range whose ends differ by this factor is shown by orders of magnitude."""


def axis_figures(comparison: Comparison, *, ink: str = "black") -> list[tuple[str, Draw]]:
    """Return (description, how to draw it) of each axis with more than one value among trials with a number.

    Filled dots are finished trials, the best one in another colour; hollow ones did not come to the end.
    """
    metric = comparison.metric
    if metric is None:
        return []
    known = [result for result in comparison.results if result.value is not None]
    figures: list[tuple[str, Draw]] = []
    for axis in dict.fromkeys(key for result in known for key in result.settings):
        there = [result for result in known if axis in result.settings]
        if len({result.settings[axis] for result in there}) > 1:
            best = next((result for result in comparison.ranked if result.state == "finished"), None)
            said = f"{metric.path} over {axis}: " + ", ".join(
                f"{result.settings[axis]} {result.value:.4g}" for result in there
            )
            figures.append((said, partial(_figure, axis, there, best, comparison, ink)))
    return figures


def _figure(axis: str, results: Sequence[Row], best: Row | None, comparison: Comparison, ink: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    plot = figure.subplots()
    values = [result.settings[axis] for result in results]
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    names = list(dict.fromkeys(str(value) for value in values))
    places = [float(value) if numbers else float(names.index(str(value))) for value in values]
    for result, x in zip(results, places, strict=True):
        colour = COLOURS[1] if best is not None and result is best else COLOURS[0]
        face = colour if result.state == "finished" else "none"
        y = math.nan if result.value is None else result.value
        plot.plot([x], [y], "o", color=colour, markerfacecolor=face, markersize=6, alpha=0.85, zorder=3)
    if numbers:
        _number_axis(plot, places)
    else:
        _name_axis(plot, names, places, results)
    goal = "lower" if comparison.metric is not None and comparison.metric.lower_is_better else "higher"
    title = "" if comparison.metric is None else comparison.metric.path
    plot.set_title(f"{plain(title)} ({goal} is better)", fontsize=10, loc="left", color=ink)
    plot.set_xlabel(plain(axis), color=ink, fontsize=9)
    plot.grid(True, axis="both" if numbers else "y", color=ink, alpha=0.15, linewidth=0.6)
    plot.tick_params(colors=ink, labelsize=9)
    for side in ("top", "right"):
        plot.spines[side].set_visible(False)
    for spine in plot.spines.values():
        spine.set_edgecolor(ink)
    return figure


def _number_axis(plot: Any, places: Sequence[float]) -> None:
    low, high = min(places), max(places)
    if low > 0 and high / low >= LOG_FROM:
        plot.set_xscale("log")
    values = sorted(set(places))
    if len(values) <= 6 and not any(math.isclose(a, b, rel_tol=0.15) for a, b in pairwise(values)):
        plot.set_xticks(values, [f"{value:g}" for value in values])
        plot.minorticks_off()


def _name_axis(plot: Any, names: Sequence[str], places: Sequence[float], results: Sequence[Row]) -> None:
    """Mark the mean of the finished trials of each name by a bar."""
    for place in range(len(names)):
        finished = [
            result.value
            for result, x in zip(results, places, strict=True)
            if x == place and result.state == "finished" and result.value is not None
        ]
        if finished:
            mean = sum(finished) / len(finished)
            plot.plot([place - 0.25, place + 0.25], [mean, mean], color=COLOURS[2], linewidth=2, zorder=2)
    plot.set_xticks(range(len(names)), [plain(name) for name in names])
    plot.set_xlim(-0.6, len(names) - 0.4)
    if max(map(len, names)) > 12:
        plot.tick_params(axis="x", labelrotation=20)
