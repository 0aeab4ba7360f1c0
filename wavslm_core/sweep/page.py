"""A sweep's comparison as JSON, as tables in Markdown, as a page, and for TensorBoard's HParams tab."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from markupsafe import Markup

from wavslm_core.errors import summary
from wavslm_core.machine.files import replacing, replacing_folder, write_json, write_text
from wavslm_core.machine.terminal import markdown_table, number_text
from wavslm_core.parts.estimates import Estimate, json_value
from wavslm_core.plotting import Draw, png_bytes, rendered
from wavslm_core.report.html import DRAWING_INK, drawing, render
from wavslm_core.sweep.comparison import Comparison, Variant
from wavslm_core.sweep.figures import axis_figures, comparison_figures
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


def _value(result: Row) -> str:
    if result.value is None:
        return "–"
    text = number_text(result.value)[0]
    return text if result.state == "finished" else f"{text} so far"


logger = logging.getLogger(__name__)


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """Return JSON values: every run, every variant, every number."""
    document = json_value(asdict(comparison))
    for result, shown in zip(comparison.results, document["results"], strict=True):
        shown |= {"folder": result.folder.name, "status": shown.pop("state"), "error": result.error or None}
    return dict(document)


def comparison_markdown(comparison: Comparison) -> str:
    """Return the table in Markdown, the best of each column in bold, and what its intervals are."""
    text = markdown_table(_header(comparison), _rows(comparison, strong=lambda text: f"**{text}**"))
    pieces = [ranking_markdown(comparison)] if comparison.metric is not None else []
    return "\n\n".join([*pieces, text, _note(comparison)]) + "\n"


def comparison_page(comparison: Comparison, *, title: str, subtitle: str, recipe: str) -> str:
    """Return the report: tables, pictures, the runs, and the recipe's text."""
    return render(
        "sweep/comparison.html",
        title=title,
        subtitle=subtitle,
        comparison=comparison,
        ranking_header=ranking_header(comparison),
        ranking=ranking_rows(comparison) if comparison.metric is not None else [],
        axes=_drawings(axis_figures(comparison, ink=DRAWING_INK)),
        header=_header(comparison),
        rows=_rows(comparison, strong=Markup("<strong>{}</strong>").format),
        note=_note(comparison),
        pictures=_drawings(comparison_figures(comparison, ink=DRAWING_INK)),
        differences=[
            [variant.name, *_difference_cells(variant, comparison)]
            for variant in comparison.variants
            if variant.differences
        ],
        recipe=recipe,
    )


def _drawings(figures: Sequence[tuple[str, Draw]]) -> list[Markup]:
    return [drawing(draw, description=said) for said, draw in figures]


def _header(comparison: Comparison) -> list[str]:
    arrows = {"higher": " ↑", "lower": " ↓", None: ""}
    return [*axes_of(comparison), *(column.title + arrows[column.better] for column in comparison.columns)]


def _rows(comparison: Comparison, strong: Callable[[str], str] = str) -> list[list[str]]:
    rows = []
    for variant in comparison.variants:
        cells = [str(variant.settings.get(axis, variant.name)) for axis in axes_of(comparison)]
        for column in comparison.columns:
            text = _cell(variant.cells.get(column.path))
            cells.append(strong(text) if column.best == variant.name else text)
        rows.append(cells)
    return rows


def _cell(estimate: Estimate | None) -> str:
    if estimate is None or not math.isfinite(estimate.mean):
        return "–"
    text, digits = number_text(estimate.mean)
    return text if not math.isfinite(estimate.interval) else f"{text} ± {estimate.interval:.{digits}f}"


def _note(comparison: Comparison) -> str:
    bad = sum(result.state != "finished" for result in comparison.results)
    missing = f" {bad} of {len(comparison.results)} runs are not in it." if bad else ""
    if not comparison.columns:
        return f"No run left a number to compare; `sweep.compare` picks from their `results/`.{missing}"
    over = (
        f"Means over {comparison.seeds} seeds with 95% intervals by Student's t."
        if comparison.seeds > 1
        else "One run each, with 95% intervals over utterances."
    )
    over += " The best of each column in bold."
    same = f" The same in all runs: {', '.join(comparison.constant)}." if comparison.constant else ""
    return over + same + missing


def _difference_cells(variant: Variant, comparison: Comparison) -> list[str]:
    cells = [variant.differences.get(column.path) for column in comparison.columns]
    return [("+" if cell and cell.mean > 0 else "") + _cell(cell) for cell in cells]


def write_comparison(folder: Path, comparison: Comparison, *, title: str, subtitle: str, recipe: str) -> None:
    """Write `results.json`, `table.md`, `report.html`, pictures and `tensorboard/`.

    What cannot be drawn, or shown in TensorBoard, is warned about. Raises: DataError.
    """
    write_json(folder / "results.json", comparison_document(comparison))
    html = comparison_page(comparison, title=title, subtitle=subtitle, recipe=recipe)
    for name, text in (("table.md", comparison_markdown(comparison)), ("report.html", html)):
        write_text(folder / name, text)
    figures = {"plot": comparison_figures(comparison), "axis": axis_figures(comparison)}
    for name, drawn in figures.items():
        for old in folder.glob(f"{name}_*.png"):
            place = old.stem.rpartition("_")[2]
            if place.isdigit() and int(place) > len(drawn):
                # Of an axis or a number that is no longer compared.
                old.unlink(missing_ok=True)
        for number, (said, draw) in enumerate(drawn, start=1):
            picture = folder / f"{name}_{number}.png"
            png = rendered(draw, png_bytes, what=said)
            if png is None:
                picture.unlink(missing_ok=True)
                continue
            with replacing(picture) as beside:
                beside.write_bytes(png)
    try:
        write_hparams(folder / "tensorboard", comparison)
    except Exception as error:
        logger.warning("the sweep is not shown in TensorBoard: %s", summary(error))


def write_hparams(folder: Path, comparison: Comparison) -> None:
    """Replace a folder by event files, one subfolder for each trial that has a number. Raises: DataError."""
    metric = comparison.metric
    known = [result for result in comparison.results if result.value is not None]
    if metric is None or not known:
        return
    with replacing_folder(folder) as beside:
        for result in known:
            _write_session(beside / result.folder.name, result, metric.path)


def _write_session(folder: Path, result: Row, metric: str) -> None:
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    writer: Any = SummaryWriter(str(folder))
    try:
        for summary in hparams(_values(result), {metric: result.value}):
            writer.file_writer.add_summary(summary)
        writer.add_scalar(metric, result.value, 0)
    finally:
        writer.close()


def _values(result: Row) -> Mapping[str, Any]:
    values = {
        key: value if isinstance(value, (bool, int, float, str)) else str(value)
        for key, value in result.settings.items()
    }
    if result.seed is not None:
        values["seed"] = result.seed
    return {**values, "state": result.state}
