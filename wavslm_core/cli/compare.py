"""`wavslm compare`: evaluations side by side, with intervals, tests and what others published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from wavslm_core.machine.terminal import echo, new_console


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of `wavslm evaluate`, or runs with the stage score_suites.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for compare.md, .csv, .tex, .png and TensorBoard's scalars.")
    ] = None,
    score: Annotated[
        Literal["mean", "sum", "localised", "normalised", "by_item"],
        typer.Option(help="Which score is compared."),
    ] = "mean",
    everything: Annotated[
        bool, typer.Option("--all", help="Also by voice, frequency, length, type and the like.")
    ] = False,
) -> None:
    """Compare evaluations of likelihood suites in one table; the first is what the others are tested against.

    Published numbers stand beside, marked as such, with their rules as far as they are known.
    """
    from rich.table import Table

    from wavslm_core.evaluation.comparison_tables import (
        TESTS_NOTE,
        comparison_header,
        comparison_rows,
        tested_header,
        tested_rows,
        write_comparison,
    )
    from wavslm_core.evaluation.suite_comparison import compare_evaluations

    comparison = compare_evaluations(runs, score=score, everything=everything)
    shown = [(comparison_header(comparison), comparison_rows(comparison, lambda text: f"{text} *"))]
    if comparison.tests:
        shown.append((tested_header(comparison), tested_rows(comparison)))
    for header, rows in shown:
        table = Table(box=None, pad_edge=False)
        for column in header:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*row)
        new_console().print(table)
        echo()
    for note in (*comparison.notes, *([TESTS_NOTE] if comparison.tests else [])):
        echo(note.replace("in bold", "with *"))
    if out is not None:
        echo(f"{out}: {', '.join(write_comparison(out, comparison))}")
