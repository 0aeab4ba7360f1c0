"""Pictures of a sweep: what is compared, over an axis of numbers where there is one, else variant by variant;
and what ranks the trials, over each of the axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from wavslm_core.plotting import COLOURS, Draw, plain
from wavslm_core.sweep.comparison import Comparison, Heading, Variant
from wavslm_core.sweep.trial_state import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST_NUMBERS = 3
"""Values of an axis from which on a line says more than points do."""


def comparison_figures(comparison: Comparison, *, ink: str = "black") -> list[tuple[str, Draw]]:
    """Return (description, how to draw it) of each column that has more than one number."""
    axis = _number_axis(comparison)
    figures: list[tuple[str, Draw]] = []
    for column in comparison.columns:
        variants = [variant for variant in comparison.variants if _is_known(variant, column)]
        if len(variants) < 2:
            continue
        said = f"{column.title}: " + ", ".join(
            f"{variant.name} {variant.cells[column.path].mean:.4g}" for variant in variants
        )
        draw = _lines if axis is not None else _points
        figures.append((said, partial(draw, column, variants, axis or "", ink)))
    return figures


def _is_known(variant: Variant, column: Heading) -> bool:
    return column.path in variant.cells and math.isfinite(variant.cells[column.path].mean)


def _number_axis(comparison: Comparison) -> str | None:
    """Return the axis with the most different numbers, if every variant has one."""
    axes = dict.fromkeys(key for variant in comparison.variants for key in variant.settings)
    counts = {}
    for key in axes:
        values = [variant.settings.get(key) for variant in comparison.variants]
        if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
            counts[key] = len(set(values))
    best = max(counts, key=lambda key: counts[key], default=None)
    return best if best is not None and counts[best] >= FEWEST_NUMBERS else None


def _points(column: Heading, variants: list[Variant], axis: str, ink: str) -> Figure:
    """Draw one row for each variant: its mean, its interval, and each seed faintly."""
    figure, plot = _titled(column, height_in=1.0 + 0.34 * len(variants), ink=ink)
    for row, variant in enumerate(variants):
        cell = variant.cells[column.path]
        colour = COLOURS[1] if variant.name == column.best else COLOURS[0]
        seeds = list(variant.by_seed[column.path].values())
        if len(seeds) > 1:
            plot.plot(seeds, [row] * len(seeds), "o", color=colour, alpha=0.35, markersize=4)
        plot.errorbar(cell.mean, row, xerr=_error(cell.interval), fmt="o", color=colour, capsize=3)
    plot.set_yticks(range(len(variants)), [plain(variant.name) for variant in variants])
    plot.set_ylim(len(variants) - 0.5, -0.5)
    return figure


def _lines(column: Heading, variants: list[Variant], axis: str, ink: str) -> Figure:
    """Draw one line over the axis for each combination of the other settings."""
    figure, plot = _titled(column, height_in=3.4, ink=ink)
    lines: dict[str, list[Variant]] = {}
    for variant in variants:
        rest = ", ".join(str(value) for key, value in variant.settings.items() if key != axis)
        lines.setdefault(rest, []).append(variant)
    for place, (label, members) in enumerate(lines.items()):
        members.sort(key=lambda variant: float(variant.settings[axis]))
        cells = [member.cells[column.path] for member in members]
        x = [float(member.settings[axis]) for member in members]
        plot.errorbar(
            x,
            [cell.mean for cell in cells],
            yerr=[_error(cell.interval) or 0.0 for cell in cells],
            fmt="o-",
            color=COLOURS[place % len(COLOURS)],
            capsize=3,
            label=plain(label) or None,
        )
    values = sorted({float(variant.settings[axis]) for variant in variants})
    if values[0] > 0 and values[-1] / values[0] >= 4:
        plot.set_xscale("log", base=2)
        plot.minorticks_off()
    plot.set_xticks(values, [f"{value:g}" for value in values])
    plot.set_xlabel(plain(axis), color=ink)
    if len(lines) > 1:
        plot.legend(frameon=False, fontsize=9, labelcolor=ink)
    return figure


def _titled(column: Heading, *, height_in: float, ink: str) -> tuple[Figure, Any]:
    arrow = {"higher": " (higher is better)", "lower": " (lower is better)", None: ""}[column.better]
    figure, plot = _empty(column.title + arrow, size_in=(6.0, height_in), font=11, ink=ink)
    plot.grid(True, color=ink, alpha=0.15, linewidth=0.6)
    return figure, plot


def _empty(title: str, *, size_in: tuple[float, float], font: int, ink: str) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size_in, layout="constrained")
    plot = figure.subplots()
    plot.set_title(plain(title), fontsize=font, loc="left", color=ink)
    plot.tick_params(colors=ink, labelsize=9)
    for side in ("top", "right"):
        plot.spines[side].set_visible(False)
    for spine in plot.spines.values():
        spine.set_edgecolor(ink)
    return figure, plot


def _error(interval: float) -> float | None:
    return interval if math.isfinite(interval) else None


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
            figures.append((said, partial(_over_axis, axis, there, best, comparison, ink)))
    return figures


def _over_axis(
    axis: str, results: Sequence[Row], best: Row | None, comparison: Comparison, ink: str
) -> Figure:
    metric = comparison.metric
    goal = "lower" if metric is not None and metric.lower_is_better else "higher"
    title = "" if metric is None else metric.path
    figure, plot = _empty(f"{title} ({goal} is better)", size_in=(4.6, 3.2), font=10, ink=ink)
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
        _mark_numbers(plot, places)
    else:
        _mark_names(plot, names, places, results)
    plot.set_xlabel(plain(axis), color=ink, fontsize=9)
    plot.grid(True, axis="both" if numbers else "y", color=ink, alpha=0.15, linewidth=0.6)
    return figure


def _mark_numbers(plot: Any, places: Sequence[float]) -> None:
    low, high = min(places), max(places)
    if low > 0 and high / low >= LOG_FROM:
        plot.set_xscale("log")
    values = sorted(set(places))
    if len(values) <= 6 and not any(math.isclose(a, b, rel_tol=0.15) for a, b in pairwise(values)):
        plot.set_xticks(values, [f"{value:g}" for value in values])
        plot.minorticks_off()


def _mark_names(plot: Any, names: Sequence[str], places: Sequence[float], results: Sequence[Row]) -> None:
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
