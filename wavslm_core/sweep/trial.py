"""One trial of a sweep, wherever it runs: chosen, given what others computed, and run as any other run."""

from collections.abc import Sequence
from pathlib import Path

from wavslm_core.errors import RecipeError
from wavslm_core.launch.launchers import Outcome, launcher_for
from wavslm_core.launch.runner import run_stages
from wavslm_core.machine.terminal import Say
from wavslm_core.recipe.launch_block import LaunchConfig
from wavslm_core.run.failure import clear_error, noting_failure
from wavslm_core.run.folder import is_finished, saved_recipe
from wavslm_core.run.queued import refuse_running
from wavslm_core.run.records import read_pruned
from wavslm_core.run.reuse import Adoption
from wavslm_core.run.stop import clear_stop
from wavslm_core.sweep.folder import SweepFolder, TrialEntry
from wavslm_core.sweep.pruning import may_be_pruned
from wavslm_core.sweep.study import SweepStudy
from wavslm_core.sweep.trial_state import clear_begin_error, noting_begin_error


def choose_trial(sweep: SweepFolder, number: int) -> TrialEntry:
    """Return a trial, its values chosen now if need be. Raises: RecipeError when they fit nothing."""
    if sweep.sweep.sampler == "optuna":
        entry = SweepStudy(sweep).claim(number)
    else:
        known = sweep.entry(number)
        if known is None:
            raise RecipeError(f"{sweep.path} has no trial {number}; it has {sweep.count}.")
        entry = known
    if entry.run is None:
        raise RecipeError(entry.error or "its values make no valid recipe")
    return entry


def begin_trial(sweep: SweepFolder, number: int, adoption: Adoption, say: Say) -> Path | None:
    """Get a trial's folder ready and return it; None when nothing is left to do. Raises: WavslmError."""
    entry = choose_trial(sweep, number)
    run_dir = sweep.path.parent / str(entry.run)
    if entry.same_as is not None:
        say(f"  the same values as those of trial {entry.same_as}, which runs for both: {run_dir}")
        return None
    if is_finished(run_dir, registry=sweep.recipe.registry):
        say(f"  finished before: {run_dir}")
        return None
    if sweep.prunes(entry) and read_pruned(run_dir) is not None:
        say(f"  stopped before, being behind: {run_dir}")
        return None
    # Another sweep's, or a run of its own: nothing in its folder may change.
    refuse_running(run_dir, say)
    say(f"  run folder: {run_dir}")
    recipe = saved_recipe(run_dir, registry=sweep.recipe.registry)
    adopted = adoption.adopt(recipe, run_dir)
    if adopted is not None:
        say(f"  {', '.join(adopted[1])}: taken over from {adopted[0]}")
    may_be_pruned(sweep, entry, run_dir)
    clear_error(run_dir)
    clear_begin_error(sweep.path, number)
    return run_dir


def run_trial(
    sweep: SweepFolder,
    number: int,
    adoption: Adoption,
    say: Say,
    *,
    stages: Sequence[str] | None = None,
    launch: LaunchConfig | None = None,
) -> Outcome:
    """Run a trial here to its end, and leave why it failed in its folder; the sweep's, if it never began.

    `stages`: only these, in this process. Raises: whatever a run raises.
    """
    with noting_begin_error(sweep.path, number):
        run_dir = begin_trial(sweep, number, adoption, say)
    if run_dir is None:
        return Outcome("finished")
    launcher = launcher_for(sweep.recipe.launch if launch is None else launch)
    with noting_failure(run_dir):
        if stages is not None:
            clear_stop(run_dir)
            return run_stages(run_dir, lambda line: say(f"  {line}"), stages=stages)
        return launcher.launch(run_dir, lambda line: say(f"  {line}"))
