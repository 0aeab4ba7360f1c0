"""`wavslm sweep status|results|retry|stop`: look at sweeps, and run failed trials again."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wavslm_core.machine.terminal import echo

if TYPE_CHECKING:
    from wavslm_core.sweep.folder import SweepFolder

SweepPath = Annotated[
    Path, typer.Argument(help="The folder that wavslm-run printed, or the recipe.", metavar="SWEEP")
]
RunsDir = Annotated[Path, typer.Option(help="Where to look for the folder of a recipe's sweep.")]


def status(
    sweep: SweepPath,
    watch: Annotated[
        bool, typer.Option("--watch", help="Renew the table until nothing runs or waits; Ctrl-C only leaves.")
    ] = False,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Show every trial: state, how far it is, the best value so far, and why it failed."""
    from wavslm_core.cli.sweep_run import show_sweep, watch_sweep

    (watch_sweep if watch else show_sweep)(_found(sweep, runs_dir))


def results(sweep: SweepPath, runs_dir: RunsDir = Path("runs")) -> None:
    """Print the trials from best to worst, and write the report, pictures and TensorBoard's HParams."""
    from wavslm_core.sweep.page import comparison_markdown
    from wavslm_core.sweep.results import write_results

    found = _found(sweep, runs_dir)
    comparison = write_results(found)
    echo(comparison_markdown(comparison))
    echo(f"report: {found.path / 'report.html'}")
    if found.sweep.metric is not None:
        echo(f"hparams: tensorboard --logdir {shlex.quote(str(found.path / 'tensorboard'))}")


def retry(
    sweep: SweepPath,
    trials: Annotated[
        list[int] | None,
        typer.Argument(
            help="Numbers of the trials, as status shows them. Default: all that failed.",
            metavar="[TRIAL]...",
            show_default=False,
        ),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Run failed trials again, alone; or others that have stopped, such as pruned ones, by their numbers."""
    from wavslm_core.cli.sweep_run import run_trials
    from wavslm_core.sweep.retry import ready_to_retry

    found = _found(sweep, runs_dir)
    only = ready_to_retry(found, trials or ())
    run_trials(found, command=shlex.join(["wavslm", *sys.argv[1:]]), only=only)


def stop(sweep: SweepPath, runs_dir: RunsDir = Path("runs")) -> None:
    """Cancel the trials that wait on SLURM, and ask those that run, anywhere, to save and to end."""
    from wavslm_core.sweep.array import stop_sweep

    stop_sweep(_found(sweep, runs_dir), echo)


def _found(path: Path, runs_dir: Path) -> SweepFolder:
    """Return the sweep in a folder, or that of a recipe. Raises: RecipeError."""
    from wavslm_core.errors import RecipeError
    from wavslm_core.recipe.loading import load_recipe
    from wavslm_core.sweep.folder import SweepFolder

    if path.is_dir():
        return SweepFolder.open(path)
    folder = SweepFolder.of(load_recipe(path), runs_dir)[0].path
    if not folder.exists():
        raise RecipeError(
            f"{path} was not run as it is now: there is no {folder}. Give the folder of the sweep you mean."
        )
    return SweepFolder.open(folder)
