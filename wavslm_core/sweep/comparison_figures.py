"""Pictures of a comparison: over an axis of numbers where there is one, else variant by variant."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from wavslm_core.plotting import COLOURS, Draw, plain
from wavslm_core.sweep.comparison import Comparison, Heading, Variant

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
    figure, plot = _empty(column, height_in=1.0 + 0.34 * len(variants), ink=ink)
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
    figure, plot = _empty(column, height_in=3.4, ink=ink)
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


def _empty(column: Heading, *, height_in: float, ink: str) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, height_in), layout="constrained")
    plot = figure.subplots()
    arrow = {"higher": " (higher is better)", "lower": " (lower is better)", None: ""}[column.better]
    plot.set_title(plain(column.title) + arrow, fontsize=11, loc="left", color=ink)
    plot.grid(True, color=ink, alpha=0.15, linewidth=0.6)
    plot.tick_params(colors=ink, labelsize=9)
    for side in ("top", "right"):
        plot.spines[side].set_visible(False)
    for spine in plot.spines.values():
        spine.set_edgecolor(ink)
    return figure, plot


def _error(interval: float) -> float | None:
    return interval if math.isfinite(interval) else None
