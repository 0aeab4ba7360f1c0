"""What `wavslm-run` does with a recipe that has a `sweep:` block."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from wavslm_core.cli.guard import EXIT_BUG, EXIT_INTERRUPTED, EXIT_MENDABLE
from wavslm_core.errors import WavslmError
from wavslm_core.recipe import Recipe
from wavslm_core.recipe.sweep import Trial, expand_sweep


def run_sweep_recipe(recipe: Recipe, *, runs_dir: Path, dry_run: bool, command: str) -> None:
    """Run the trials and print how they compare; or, with `dry_run`, list them."""
    from wavslm_core.launching.sweep import run_sweep, sweep_folder

    trials = expand_sweep(recipe, runs_dir=runs_dir)
    if dry_run:
        _list(trials, runs_dir)
        typer.echo(f"\nsweep folder: {sweep_folder(recipe, trials, runs_dir)}")
        return
    from wavslm_core.evaluation.report.comparison import comparison_markdown

    began = time.monotonic()
    typer.echo(f"sweep folder: {sweep_folder(recipe, trials, runs_dir)}")
    outcome = run_sweep(recipe, trials, runs_dir, typer.echo)
    typer.echo(f"\n{comparison_markdown(outcome.comparison)}")
    if outcome.interrupted:
        typer.echo(f"interrupted; to continue: {command}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)
    typer.echo(f"{len(trials)} trials in {time.monotonic() - began:.1f} s")
    typer.echo(f"report: {outcome.folder / 'report.html'}")
    if outcome.errors:
        for result in outcome.comparison.results:
            if result.error is not None:
                typer.echo(f"error: {result.folder}: {result.error}", err=True)
        typer.echo(
            f"error: {len(outcome.errors)} of {len(trials)} trials failed; error.txt in their folders shows "
            f"where. To run them again: {command}",
            err=True,
        )
        mendable = all(isinstance(error, WavslmError) for error in outcome.errors)
        raise typer.Exit(EXIT_MENDABLE if mendable else EXIT_BUG)


def _list(trials: tuple[Trial, ...], runs_dir: Path) -> None:
    """Print every trial, which one it shares its first stages with, and how far it is."""
    from rich.console import Console
    from rich.table import Table

    from wavslm_core.launching.run_folder import run_folder
    from wavslm_core.launching.sweep import trial_state
    from wavslm_core.recipe.identity import stage_identities

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
        folder = run_folder(trial.recipe, runs_dir)
        table.add_row(str(number), trial.label, shares, trial_state(trial, runs_dir), str(folder))
    Console(markup=False, highlight=False).print(table)
