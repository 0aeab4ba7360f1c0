"""How a sweep does, as a table."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from wavslm_core.machine.terminal import new_console, number_text
from wavslm_core.sweep.folder import SweepFolder
from wavslm_core.sweep.results import SweepStatus, sweep_status

if TYPE_CHECKING:
    from rich.console import RenderableType

EVERY_S = 2.0


def show_sweep(sweep: SweepFolder) -> None:
    """Print a row for each trial, counts and the best one."""

    new_console().print(_shown(sweep, sweep_status(sweep)))


def watch_sweep(sweep: SweepFolder) -> SweepStatus:
    """Print the same again and again, until nothing runs or waits in a queue; return how it ended."""
    from rich.live import Live

    now = sweep_status(sweep)
    with Live(_shown(sweep, now), console=new_console(), auto_refresh=False) as live:
        while not now.has_ended:
            time.sleep(EVERY_S)
            now = sweep_status(sweep)
            live.update(_shown(sweep, now), refresh=True)
    return now


def _shown(sweep: SweepFolder, now: SweepStatus) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    metric = sweep.sweep.metric
    table = Table(box=None, pad_edge=False)
    for column in ("", "trial", "state", "stage", *([metric.path] if metric is not None else []), "error"):
        table.add_column(column, overflow="fold")
    for row in now.rows:
        value = "" if row.value is None else number_text(row.value)[0]
        values = [value] if metric is not None else []
        table.add_row(str(row.number), row.label, row.state, row.doing, *values, row.error)
    best = ""
    if now.best is not None and now.best.value is not None:
        best = f"\nbest so far: trial {now.best.number} ({now.best.label}), {number_text(now.best.value)[0]}"
    silent = f"\n{now.problem} What seems to have stopped may wait or run" if now.problem else ""
    return Group(table, f"\n{sweep.path}: {now.counts}{best}{silent}")
