"""The runs of a sweep from best to worst, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from wavslm_core.machine.terminal import number_text
from wavslm_core.sweep.comparison import Comparison
from wavslm_core.sweep.trial_state import Row


def axes_of(comparison: Comparison) -> list[str]:
    """Return the axes that any run has a setting on; `run` when there are none."""
    return list(dict.fromkeys(key for variant in comparison.variants for key in variant.settings)) or ["run"]


def ranking_header(comparison: Comparison) -> list[str]:
    arrow = "" if comparison.metric is None else " ↓" if comparison.metric.lower_is_better else " ↑"
    path = "" if comparison.metric is None else comparison.metric.path
    seed = ["seed"] if comparison.seeds > 1 else []
    return ["", *axes_of(comparison), *seed, f"{path}{arrow}", "state", "run"]


def ranking_rows(comparison: Comparison) -> list[list[str]]:
    """Return one row for each run, the best first."""
    rows = []
    for place, result in enumerate(comparison.ranked, start=1):
        cells = [str(result.settings.get(axis, result.variant)) for axis in axes_of(comparison)]
        if comparison.seeds > 1:
            cells.append("" if result.seed is None else str(result.seed))
        state = result.state if not result.error else f"{result.state}: {result.error}"
        number = str(place) if result.state == "finished" and result.value is not None else ""
        rows.append([number, *cells, _value(result), state, result.folder.name])
    return rows


def ranking_markdown(comparison: Comparison) -> str:
    """Return the table in Markdown, without the names of the runs' folders."""
    rows = [row[:-1] for row in ranking_rows(comparison)]
    if rows and rows[0][0] == "1":
        rows[0] = [f"**{cell}**" for cell in rows[0]]
    return markdown_table(ranking_header(comparison)[:-1], rows)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _value(result: Row) -> str:
    if result.value is None:
        return "–"
    text = number_text(result.value)[0]
    return text if result.state == "finished" else f"{text} so far"
