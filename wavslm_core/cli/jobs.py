"""`wavslm jobs`: how runs do, wherever they run and whoever started them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wavslm_core.machine.terminal import new_console

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

REFRESH_S = 3.0


def jobs(
    run: Annotated[
        str | None,
        typer.Argument(help="A run's folder or name: shows its jobs, errors and log.", metavar="[RUN]"),
    ] = None,
    runs_dir: Annotated[Path, typer.Option(help="Holds a folder for each run.")] = Path("runs"),
    lines: Annotated[int, typer.Option(help="How many lines of the log to show.", min=0)] = 10,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again until Ctrl-C.")] = False,
) -> None:
    """List runs: state, node, stage, rate, time left, last loss, restarts.

    States come from the run folders and, for jobs of a cluster, from SLURM.
    """

    console = new_console()
    if not watch:
        console.print(_shown(run, runs_dir, lines))
        return
    from rich.live import Live

    try:
        with Live(_shown(run, runs_dir, lines), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(REFRESH_S)
                live.update(_shown(run, runs_dir, lines), refresh=True)
    except KeyboardInterrupt:
        # Looking on has no other end.
        return


def _shown(run: str | None, runs_dir: Path, lines: int) -> Group:
    from rich.console import Group

    from wavslm_core.cli.job_tables import first_failures, jobs_table, log_tail, newest_log, runs_table
    from wavslm_core.run.folder import find_run, find_runs
    from wavslm_core.run.state import State, read_statuses

    folders = find_runs(runs_dir) if run is None else [find_run(run, runs_dir)]
    if not folders:
        return Group(f"no runs in {runs_dir}")
    statuses = read_statuses(folders)
    parts: list[RenderableType] = [runs_table(statuses)]
    texts = [status.problem for status in statuses if status.problem][:1]
    if run is not None:
        (status,) = statuses
        if status.records:
            parts += ["", jobs_table(status)]
        if not status.state.is_over and status.state is not State.NEW:
            texts += first_failures(status)
        if status.pruned is not None and status.state is State.PRUNED:
            step = status.pruned.get("step")
            texts.append(f"stopped at step {step} of {status.stage}: behind the other trials of its sweep")
        log = newest_log(status)
        if log is not None:
            texts += ["", f"log: {log}", log_tail(log, lines)]
    # As strings, whose control characters the console escapes: they come from logs and other people's files.
    return Group(*parts, *texts)
