"""`wavslm stop`: end a run so that it can be continued."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from wavslm_core.machine.terminal import echo


def stop(
    run: Annotated[str, typer.Argument(help="A run's folder or name.", metavar="RUN")],
    runs_dir: Annotated[Path, typer.Option(help="Holds a folder for each run.")] = Path("runs"),
    patience: Annotated[
        float, typer.Option(help="Seconds that it may take to save before it is ended anyway.", min=0)
    ] = 300.0,
) -> None:
    """Stop a run: cancel what waits, let what runs save and end. The same command continues it later."""
    from wavslm_core.launch.stopping import stop_run
    from wavslm_core.run.folder import find_run, submitted_with

    folder = find_run(run, runs_dir)
    stopped = stop_run(folder, echo, patience_s=patience)
    told = {
        "saved": "stopped; everything it did is saved",
        "cancelled": "stopped before it ran",
        "killed": "ended; what it did since it last saved is lost",
    }
    command = submitted_with(folder)
    again = "the command that started it" if command is None else shlex.join(command)
    echo(f"{told[stopped]}; to continue: {again}")
