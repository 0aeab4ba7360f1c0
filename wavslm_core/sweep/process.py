"""A child process that runs one trial of a sweep. How it ended is in the trial's folder; the exit code says
whether it failed: `python -m wavslm_core.sweep.process FOLDER TRIAL [STAGES]`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from wavslm_core.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_MENDABLE, WavslmError
from wavslm_core.machine.terminal import echo, prepare_output
from wavslm_core.recipe.launch_block import DebugLaunch, LaunchConfig, LocalLaunch
from wavslm_core.run.reuse import Adoption
from wavslm_core.sweep.folder import SweepFolder
from wavslm_core.sweep.trial import run_trial
from wavslm_core.sweep.trial_state import noting_begin_error


def main(arguments: list[str]) -> int:
    """Run a trial, or its stages with these names separated by commas; return the exit code."""
    prepare_output()
    folder, number, *stages = arguments
    try:
        with noting_begin_error(Path(folder), int(number)):
            sweep = SweepFolder.open(Path(folder))
            adoption = Adoption(sweep.path.parent, registry=sweep.recipe.registry)
        names = stages[0].split(",") if stages else None
        outcome = run_trial(sweep, int(number), adoption, echo, stages=names, launch=_launch(sweep))
    except Exception as error:
        echo(f"error: {error}", err=True)
        return EXIT_MENDABLE if isinstance(error, WavslmError) else EXIT_BUG
    return EXIT_INTERRUPTED if outcome.status == "interrupted" else 0


def _launch(sweep: SweepFolder) -> LaunchConfig:
    """Return where the trial runs: this is the child process that its recipe asks for, unless of several."""
    launch = sweep.recipe.launch
    several = isinstance(launch, LocalLaunch) and launch.processes > 1
    return launch if several else DebugLaunch(device=launch.device)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
