"""What `wavslm-run` does with a recipe that has a `sweep:` block, and how a sweep does, as a table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from wavslm_core.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_MENDABLE
from wavslm_core.machine.terminal import echo, new_console, number_text
from wavslm_core.recipe.launch_block import SlurmLaunch
from wavslm_core.recipe.model import Recipe
from wavslm_core.sweep.folder import SweepFolder
from wavslm_core.sweep.results import SweepStatus, sweep_status, write_results

if TYPE_CHECKING:
    from rich.console import RenderableType

    from wavslm_core.sweep.space import Trial


def run_sweep_recipe(
    recipe: Recipe, *, runs_dir: Path, dry_run: bool, command: str, wait: bool = False
) -> None:
    """Run the trials and print how they compare, or submit them; or, with `dry_run`, list them."""
    sweep, trials = SweepFolder.of(recipe, runs_dir)
    if dry_run:
        _list(sweep, trials)
        echo(f"\nsweep folder: {sweep.path}")
        if isinstance(recipe.launch, SlurmLaunch):
            from wavslm_core.sweep.array import preview_sweep

            echo(f"\n{preview_sweep(sweep)}")
        return
    from wavslm_core.run.folder import BEGUN, kept_once_begun, run_folder
    from wavslm_core.sweep.array import refuse_submitted
    from wavslm_core.sweep.folder import TASKS_FILE

    # Before anything is written that a job of it may read.
    refuse_submitted(sweep, range(1, sweep.count + 1))
    echo(f"sweep folder: {sweep.path}")
    folders = [run_folder(trial.recipe, runs_dir) for trial in trials]
    with ExitStack() as stack:
        # Trials that run here are told of one by one.
        if isinstance(recipe.launch, SlurmLaunch):
            stack.enter_context(kept_once_begun(sweep.path, folders, signs=(*BEGUN, TASKS_FILE)))
        sweep.prepare(trials)
        run_trials(sweep, command=command, wait=wait)


def run_trials(sweep: SweepFolder, *, command: str, only: Sequence[int] = (), wait: bool = False) -> None:
    """Run trials of a sweep that is on disk, or submit them, and print how they compare."""
    if isinstance(sweep.recipe.launch, SlurmLaunch):
        _submit(sweep, only, wait=wait)
        return
    from wavslm_core.sweep.local import run_sweep
    from wavslm_core.sweep.page import comparison_markdown
    from wavslm_core.sweep.retry import sparing

    began = time.monotonic()
    with sparing(sweep, only):
        outcome = run_sweep(sweep, echo, only=only)
    echo(f"\n{comparison_markdown(outcome.comparison)}")
    if outcome.interrupted:
        echo(f"interrupted; to continue: {command}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)
    echo(f"{len(only) or sweep.count} trials in {time.monotonic() - began:.1f} s")
    _conclude(sweep, bug=outcome.bug)


def _submit(sweep: SweepFolder, only: Sequence[int], *, wait: bool) -> None:
    from wavslm_core.sweep.array import submit_sweep
    from wavslm_core.sweep.retry import sparing

    with sparing(sweep, only):
        submitted = submit_sweep(sweep, echo, only=only)
    if submitted and not wait:
        echo(f"follow:  wavslm sweep status {sweep.path} --watch")
        echo(f"results: wavslm sweep results {sweep.path}")
        echo(f"stop:    wavslm sweep stop {sweep.path}")
        return
    from wavslm_core.sweep.page import comparison_markdown

    ended = watch_sweep(sweep)
    comparison = write_results(sweep)
    echo(f"\n{comparison_markdown(comparison)}")
    _conclude(sweep, bug=False)
    left = [str(row.number) for row in ended.left]
    if left:
        echo(f"error: {ended.counts}; the same command continues trial {', '.join(left)}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)


def _conclude(sweep: SweepFolder, *, bug: bool) -> None:
    """Say where the report is, and leave with an exit code when trials failed, begun or not."""
    echo(f"report: {sweep.path / 'report.html'}")
    failed = [row for row in sweep_status(sweep).rows if row.state == "failed"]
    if failed:
        for row in failed:
            echo(f"error: {row.folder if row.variant else f'trial {row.number}'}: {row.error}", err=True)
        echo(
            f"error: {len(failed)} of {sweep.count} trials failed; error.txt in their folders, or the log of "
            f"one that never began, shows where. To run them again: wavslm sweep retry {sweep.path}",
            err=True,
        )
        raise typer.Exit(EXIT_BUG if bug else EXIT_MENDABLE)


def _list(sweep: SweepFolder, trials: Sequence[Trial]) -> None:
    """Print every trial, which one it shares its first stages with, and how far it is."""
    from rich.table import Table

    from wavslm_core.run.folder import run_folder
    from wavslm_core.run.reuse import stage_identities
    from wavslm_core.run.state import read_statuses

    table = Table(box=None, pad_edge=False)
    for column in ("", "trial", "shares", "state", "folder"):
        table.add_column(column, overflow="fold")
    folders = [run_folder(trial.recipe, sweep.path.parent) for trial in trials]
    states = {status.run_dir: status.state for status in read_statuses(folders)}
    first: dict[str, int] = {}
    for number, trial in enumerate(trials, start=1):
        shared: dict[int, list[str]] = {}
        replaced: list[str] = []
        for stage in stage_identities(trial.recipe):
            names = [*replaced, stage.name]
            owner = first.get(stage.digest)
            if owner is not None:
                shared.setdefault(owner, []).extend(names)
            elif stage.kept:
                first[stage.digest] = number
            replaced = [] if owner is not None or stage.kept else names
        shares = "; ".join(f"{', '.join(names)} with {owner}" for owner, names in shared.items())
        folder = folders[number - 1]
        table.add_row(str(number), trial.label, shares, states[folder], str(folder))
    if trials:
        new_console().print(table)
    else:
        echo(f"{sweep.count} trials, each chosen by the results of those before; what may be chosen fits")


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
