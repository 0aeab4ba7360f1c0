"""What `wavslm-run` does with a recipe that has a `sweep:` block."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from wavslm_core.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_MENDABLE
from wavslm_core.machine.terminal import echo, new_console
from wavslm_core.recipe import Recipe
from wavslm_core.recipe.launch_block import SlurmLaunch

if TYPE_CHECKING:
    from wavslm_core.recipe.sweep_space import Trial
    from wavslm_core.sweep.comparison import Comparison
    from wavslm_core.sweep.folder import SweepFolder


def run_sweep_recipe(
    recipe: Recipe, *, runs_dir: Path, dry_run: bool, command: str, wait: bool = False
) -> None:
    """Run the trials and print how they compare, or submit them; or, with `dry_run`, list them."""
    from wavslm_core.sweep.folder import SweepFolder

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
    from wavslm_core.sweep.jobs import TASKS_FILE

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
    from wavslm_core.sweep.page import comparison_markdown
    from wavslm_core.sweep.retry import sparing
    from wavslm_core.sweep.run import run_sweep

    began = time.monotonic()
    with sparing(sweep, only):
        outcome = run_sweep(sweep, echo, only=only)
    echo(f"\n{comparison_markdown(outcome.comparison)}")
    if outcome.interrupted:
        echo(f"interrupted; to continue: {command}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)
    echo(f"{len(only) or sweep.count} trials in {time.monotonic() - began:.1f} s")
    _conclude(sweep, outcome.comparison, bug=outcome.bug)


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
    from wavslm_core.cli.sweep_tables import watch_sweep
    from wavslm_core.sweep.page import comparison_markdown
    from wavslm_core.sweep.results import write_results

    ended = watch_sweep(sweep)
    comparison = write_results(sweep)
    echo(f"\n{comparison_markdown(comparison)}")
    _conclude(sweep, comparison, bug=False)
    left = [str(row.number) for row in ended.left]
    if left:
        echo(f"error: {ended.counts}; the same command continues trial {', '.join(left)}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)


def _conclude(sweep: SweepFolder, comparison: Comparison, *, bug: bool) -> None:
    """Say where the report is, and leave with an exit code when trials failed."""
    echo(f"report: {sweep.path / 'report.html'}")
    failed = [result for result in comparison.results if result.state == "failed"]
    if failed:
        for result in failed:
            echo(f"error: {result.folder}: {result.error}", err=True)
        echo(
            f"error: {len(failed)} of {sweep.count} trials failed; error.txt in their folders shows "
            f"where. To run them again: wavslm sweep retry {sweep.path}",
            err=True,
        )
        raise typer.Exit(EXIT_BUG if bug else EXIT_MENDABLE)


def _list(sweep: SweepFolder, trials: Sequence[Trial]) -> None:
    """Print every trial, which one it shares its first stages with, and how far it is."""
    from rich.table import Table

    from wavslm_core.run.folder import run_folder
    from wavslm_core.run.identity import stage_identities
    from wavslm_core.run.state import read_statuses

    table = Table(box=None, pad_edge=False)
    for column in ("", "trial", "shares", "state", "folder"):
        table.add_column(column, overflow="fold")
    first: dict[str, int] = {}
    for number, trial in enumerate(trials, start=1):
        shared: dict[int, list[str]] = {}
        replaced: list[str] = []
        for stage in stage_identities(trial.recipe.resolve()):
            names = [*replaced, stage.name]
            owner = first.get(stage.digest)
            if owner is not None:
                shared.setdefault(owner, []).extend(names)
            elif stage.kept:
                first[stage.digest] = number
            replaced = [] if owner is not None or stage.kept else names
        shares = "; ".join(f"{', '.join(names)} with {owner}" for owner, names in shared.items())
        folder = run_folder(trial.recipe, sweep.path.parent)
        (status,) = read_statuses([folder])
        table.add_row(str(number), trial.label, shares, status.state, str(folder))
    if trials:
        new_console().print(table)
    else:
        echo(f"{sweep.count} trials, each chosen by the results of those before; what may be chosen fits")
