"""The command `wavslm-run`: run a recipe, continue it, or print what it would do."""

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from wavslm_core.cli.guard import guarded
from wavslm_core.errors import EXIT_INTERRUPTED
from wavslm_core.machine.terminal import echo


def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe: a YAML file.", metavar="RECIPE")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Changes to it, such as seed=1, launch.device=cpu or stages.train_lm.steps=100.",
            metavar="[KEY=VALUE]...",
            show_default=False,
        ),
    ] = None,
    launcher: Annotated[
        str | None,
        typer.Option(help="Where to run: local, slurm or debug. Default: the recipe's `launch.on`."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow submitted jobs here until they end; Ctrl-C only leaves.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved plan and leave.")] = False,
    runs_dir: Annotated[Path, typer.Option(help="Holds a folder for each run.")] = Path("runs"),
    reuse: Annotated[
        bool, typer.Option("--reuse", help="Take over first stages that another run in RUNS_DIR has.")
    ] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error arose.")] = False,
) -> None:
    """Run a recipe. The same command again continues where it stopped.

    Results are in RUNS_DIR/NAME-DIGEST. Ctrl-C saves and leaves; once more leaves at once.
    """
    from wavslm_core.launch.launchers import launcher_for
    from wavslm_core.recipe.checks import check
    from wavslm_core.recipe.loading import load_recipe
    from wavslm_core.run.folder import kept_once_begun, prepare_run_folder, run_folder
    from wavslm_core.run.queued import refuse_taken
    from wavslm_core.run.records import spare

    changes = [*(overrides or []), *([f"launch.on={launcher}"] if launcher else [])]
    loaded = load_recipe(recipe, changes)
    if loaded.sweep is not None:
        from wavslm_core.cli.sweep_run import run_sweep_recipe

        run_sweep_recipe(
            loaded, runs_dir=runs_dir, dry_run=dry_run, command=shlex.join(_command()), wait=wait
        )
        return
    checked = check(loaded, runs_dir=runs_dir)
    launching = launcher_for(checked.launch)
    if dry_run:
        from wavslm_core.cli.plan_tables import print_plan
        from wavslm_core.recipe.plan import make_plan

        folder = run_folder(checked, runs_dir)
        print_plan(make_plan(checked), checked, folder=folder, where=launching.where())
        preview = launching.preview(checked, folder)
        if preview:
            echo(f"\n{preview}")
        return
    refuse_taken(run_folder(checked, runs_dir), echo)
    began = time.monotonic()
    with kept_once_begun(run_folder(checked, runs_dir)):
        folder = prepare_run_folder(checked, runs_dir)
        # Asked for by itself, a trial of a sweep runs to its end.
        spare(folder)
        echo(f"run folder: {folder}")
        if reuse:
            from wavslm_core.run.reuse import Adoption

            adopted = Adoption(runs_dir, registry=checked.registry).adopt(checked, folder)
            if adopted is not None:
                echo(f"{', '.join(adopted[1])}: taken over from {adopted[0]}")
        outcome = launching.launch(folder, echo)
    if outcome.status == "submitted":
        echo(f"follow: wavslm jobs {folder}\nstop:   wavslm stop {folder}")
        if wait:
            from wavslm_core.launch.following import follow

            outcome = follow(folder, echo)
            if outcome.status == "submitted":
                raise typer.Exit(EXIT_INTERRUPTED)
    if outcome.status == "submitted":
        return
    if outcome.status == "pruned":
        # Nothing to continue, and nothing was finished either.
        echo(f"ended early during stage {outcome.stage}: behind the other trials of its sweep", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)
    if outcome.status == "interrupted":
        during = f" during stage {outcome.stage}" if outcome.stage else ""
        echo(f"interrupted{during}; to continue: {shlex.join(_command())}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)
    echo(f"finished in {time.monotonic() - began:.1f} s")
    report = folder / "report.html"
    if report.exists():
        echo(f"report: {report}")


def _command() -> list[str]:
    return ["wavslm-run", *sys.argv[1:]]


def build_app() -> typer.Typer:
    """Return the command."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(run)
    return app


def main() -> None:
    """Entry point."""
    sys.exit(guarded(lambda arguments: build_app()(arguments, prog_name="wavslm-run")))


if __name__ == "__main__":
    main()
