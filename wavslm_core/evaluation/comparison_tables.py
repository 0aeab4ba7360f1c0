"""Compared evaluations in Markdown, LaTeX and CSV, as a picture, and for TensorBoard."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from wavslm_core.errors import summary
from wavslm_core.evaluation.suite_comparison import SuiteComparison
from wavslm_core.evaluation.suite_tables import number_text
from wavslm_core.machine.files import replacing, replacing_folder, write_text
from wavslm_core.machine.terminal import markdown_table
from wavslm_core.plotting import Interval, interval_figure, png_bytes, rendered

logger = logging.getLogger(__name__)

_BEST = "\0"
"""Marks the best until the rest of a cell is escaped."""
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    character: f"\\{character}" for character in "&%$#_{}"
}


def comparison_header(comparison: SuiteComparison) -> list[str]:
    names = [of.name for of in comparison.evaluations]
    return ["", *names, *(f"{model} (published)" for model in comparison.models)]


def comparison_rows(comparison: SuiteComparison, strong: Callable[[str], str] = str) -> list[list[str]]:
    """Return the cells of the table; `strong` marks the best of a row."""
    rows = []
    for row in comparison.rows:
        best = comparison.best(row)
        cells = [
            strong(number_text(number)) if of.name in best else number_text(number)
            for of, number in comparison.cells(row)
        ]
        others = [row.published.get(model) for model in comparison.models]
        rows.append([row.title, *cells, *("–" if one is None else f"{one.percent:.1f}" for one in others)])
    return rows


def tested_rows(comparison: SuiteComparison) -> list[list[str]]:
    """Return the cells of the table of tests: how each differs from the first, and how likely by chance."""
    rows = []
    for row in comparison.rows:
        cells = []
        for other in comparison.evaluations[1:]:
            test = comparison.tests.get((row.suite, row.key, other.name))
            difference = comparison.difference(row, other)
            if test is None or difference is None:
                cells.append("–")
            else:
                cells.append(f"{difference:+.1f} ({test.better}:{test.worse}, p {p_text(test.p)})")
        rows.append([row.title, *cells])
    return rows


def p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def tested_header(comparison: SuiteComparison) -> list[str]:
    first, *others = comparison.evaluations
    return [f"against {first.name}", *(of.name for of in others)]


TESTS_NOTE = (
    "Difference in points, items won and lost, and p of McNemar's exact test over items, in which the voices "
    "of an item vote together; not corrected for the number of tests."
)


def comparison_markdown(comparison: SuiteComparison) -> str:
    """Return the tables and their notes in Markdown."""
    pieces = [
        markdown_table(comparison_header(comparison), comparison_rows(comparison, lambda text: f"**{text}**"))
    ]
    pieces += comparison.notes
    if comparison.tests:
        pieces += [markdown_table(tested_header(comparison), tested_rows(comparison)), TESTS_NOTE]
    return "\n\n".join(pieces) + "\n"


def comparison_latex(comparison: SuiteComparison) -> str:
    """Return the table in LaTeX, with its notes as comments below."""
    header = comparison_header(comparison)
    rows = comparison_rows(comparison, lambda text: f"{_BEST}{text}")

    def cell(text: str) -> str:
        escaped = "".join(_LATEX.get(character, character) for character in text.removeprefix(_BEST))
        escaped = escaped.replace("–", "--")
        return rf"\textbf{{{escaped}}}" if text.startswith(_BEST) else escaped

    lines = [" & ".join(map(cell, line)) + r" \\" for line in (header, *rows)]
    body = "\n".join([lines[0], r"\hline", *lines[1:]])
    notes = "".join(f"% {note}\n" for note in comparison.notes)
    return f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}\n{body}\n\\end{{tabular}}\n{notes}"


def comparison_csv(comparison: SuiteComparison) -> str:
    """Return a line for each number of each model, published ones included."""
    text = io.StringIO(newline="")
    fields = (
        "suite", "number", "model", "published", "score", "percent", "low", "high", "items", "pairs",
        "partial", "won", "lost", "p", "rule",
    )  # fmt: skip
    writer = csv.DictWriter(text, fields, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_rows(comparison))
    return text.getvalue()


def _csv_rows(comparison: SuiteComparison) -> Iterator[dict[str, Any]]:
    for row in comparison.rows:
        about = {"suite": row.suite, "number": row.key}
        for of, number in comparison.cells(row):
            if number is None:
                continue
            test = comparison.tests.get((row.suite, row.key, of.name))
            yield {
                **about,
                "model": of.name,
                "published": 0,
                "score": comparison.score,
                "percent": number["mean"],
                "low": number["low"],
                "high": number["high"],
                "items": number["count"],
                "pairs": number["pairs"],
                "partial": int(of.results["suites"][row.suite]["partial"]),
                "rule": of.results["rules"]["text"],
                **({} if test is None else {"won": test.better, "lost": test.worse, "p": test.p}),
            }
        for one in row.published.values():
            yield {**about, "model": one.model, "published": 1, "percent": one.percent, "rule": one.rule}


def write_comparison(folder: Path, comparison: SuiteComparison) -> list[str]:
    """Write `compare.md`, `.csv`, `.tex`, `.png` and `tensorboard/`; return their names.

    What cannot be drawn, or shown in TensorBoard, is warned about. Raises: DataError.
    """
    texts = {
        "compare.md": comparison_markdown(comparison),
        "compare.csv": comparison_csv(comparison),
        "compare.tex": comparison_latex(comparison),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    written = list(texts)
    rows = {
        row.title: [
            *(_interval(of.name, number) for of, number in comparison.cells(row) if number is not None),
            *(Interval(f"{model} (published)", one.percent) for model, one in row.published.items()),
        ]
        for row in comparison.rows
    }
    png = rendered(
        lambda: interval_figure(rows, x_label="accuracy (%)", mark=50.0), png_bytes, what="compare.png"
    )
    if png is not None:
        with replacing(folder / "compare.png") as beside:
            beside.write_bytes(png)
        written.append("compare.png")
    try:
        _write_scalars(folder / "tensorboard", comparison)
        written.append("tensorboard/")
    except Exception as error:
        logger.warning("the comparison is not shown in TensorBoard: %s", summary(error))
    return written


def _interval(name: str, number: Any) -> Interval:
    return Interval(name, number["mean"], number["low"], number["high"])


def _write_scalars(folder: Path, comparison: SuiteComparison) -> None:
    """Replace a folder by event files, a subfolder for each evaluation."""
    from torch.utils.tensorboard import SummaryWriter

    with replacing_folder(folder) as beside:
        for of in comparison.evaluations:
            writer: Any = SummaryWriter(str(beside / of.name.replace("/", "_")))
            for row in comparison.rows:
                number = of.number(row.suite, row.key, comparison.score)
                if number is not None and number["mean"] is not None:
                    writer.add_scalar(f"{row.suite}/{row.key}/{comparison.score}", number["mean"], 0)
            writer.close()
