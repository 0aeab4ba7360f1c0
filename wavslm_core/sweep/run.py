"""Runs the trials of a sweep on this machine, in turn or in several processes. Each is an ordinary run with a
folder of its own beside the others, so the same command again skips what is finished, and a trial added later
costs only itself.

A folder for the sweep holds the comparison: `results.json`, `table.md`, `report.html` and pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wavslm_core.errors import EXIT_BUG, WavslmError
from wavslm_core.machine.terminal import Say
from wavslm_core.recipe.launch_block import LocalLaunch
from wavslm_core.run.lock import RunLock
from wavslm_core.run.reuse import Adoption
from wavslm_core.run.run_error import first_line
from wavslm_core.sweep.comparison import Comparison
from wavslm_core.sweep.folder import SweepFolder
from wavslm_core.sweep.phases import plan_phases
from wavslm_core.sweep.pool import run_pool
from wavslm_core.sweep.results import write_results
from wavslm_core.sweep.study import SweepStudy
from wavslm_core.sweep.trial import run_trial


@dataclass(frozen=True)
class SweepOutcome:
    """How a sweep ended."""

    comparison: Comparison
    interrupted: bool
    bug: bool
    """A trial failed in a way that no user can mend."""


def run_sweep(sweep: SweepFolder, say: Say, *, only: Sequence[int] = ()) -> SweepOutcome:
    """Run every unfinished trial on this machine, or some by their numbers, then compare them all.

    One that fails does not stop the others. Raises: WavslmError when the sweep's own folder is in use or
    cannot be written.
    """
    numbers = list(only) or list(range(1, sweep.count + 1))
    if sweep.sweep.sampler == "optuna":
        SweepStudy(sweep)  # Says now what is missing, not once for each trial.
    with RunLock(sweep.path, say=say):
        adoption = Adoption(sweep.path.parent, registry=sweep.recipe.registry)
        if sweep.sweep.max_parallel > 1 and _in_children(sweep):
            interrupted, bug = _run_at_once(sweep, numbers, adoption, say)
        else:
            if sweep.sweep.max_parallel > 1:
                say("trials run in turn: several at once are child processes, `launch.process=child`")
            interrupted, bug = _run_in_turn(sweep, numbers, adoption, say)
        comparison = write_results(sweep)
    return SweepOutcome(comparison, interrupted, bug)


def _in_children(sweep: SweepFolder) -> bool:
    launch = sweep.recipe.launch
    return isinstance(launch, LocalLaunch) and launch.process == "child"


def _run_in_turn(
    sweep: SweepFolder, numbers: Sequence[int], adoption: Adoption, say: Say
) -> tuple[bool, bool]:
    """Return whether the run was interrupted, and whether a trial failed by a bug."""
    bug = False
    for number in numbers:
        entry = sweep.entry(number)
        say(f"trial {number} of {sweep.count}" + (f": {entry.label}" if entry is not None else ""))
        try:
            outcome = run_trial(sweep, number, adoption, say)
        except Exception as error:
            bug = bug or not isinstance(error, WavslmError)
            say(f"trial {number} failed: {first_line(error)}")
        else:
            if outcome.status == "pruned":
                say(f"trial {number}: stopped during {outcome.stage}, being behind others")
            if outcome.status == "interrupted":
                return True, bug
    return False, bug


def _run_at_once(
    sweep: SweepFolder, numbers: Sequence[int], adoption: Adoption, say: Say
) -> tuple[bool, bool]:
    """Return the same as when they run in turn."""
    bug = False
    for number in numbers:
        entry = sweep.entry(number)
        if entry is not None:
            say(f"trial {number} of {sweep.count}: {entry.label}")
    for phase in plan_phases(sweep, numbers, adoption):
        pool = run_pool(sweep, phase, say)
        bug = bug or EXIT_BUG in pool.codes
        if pool.stopped:
            return True, bug
    return False, bug
