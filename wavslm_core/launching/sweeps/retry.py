"""Runs failed trials of a sweep again, and others that are asked for by their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wavslm_core.errors import WavslmError
from wavslm_core.launching.prune_files import spare
from wavslm_core.launching.sweeps.folder import SweepFolder
from wavslm_core.launching.sweeps.jobs import known_jobs
from wavslm_core.launching.sweeps.trial_state import clear_error, trial_state


def ready_to_retry(sweep: SweepFolder, numbers: Sequence[int]) -> list[int]:
    """Return which trials to run: those asked for, or all that failed; they continue where they stopped.

    One that was stopped for being behind is spared from now on.
    Raises: WavslmError when a trial cannot be run again, or none has failed.
    """
    jobs = known_jobs(sweep)
    states = {entry.number: trial_state(sweep, entry, jobs) for entry in sweep.entries()}
    if not numbers:
        numbers = [number for number, state in states.items() if state.status == "failed"]
        numbers = [number for number in numbers if states[number].recipe is not None]
        if not numbers:
            raise WavslmError(
                f"no trial of {sweep.path} failed. Name those to run again: `wavslm sweep retry "
                f"{sweep.path} 3`; the numbers are those of `wavslm sweep status`."
            )
    for number in numbers:
        entry = sweep.entry(number)
        state = states.get(number)
        if entry is None or state is None:
            raise WavslmError(
                f"{sweep.path} has no trial {number}" + f" yet; it has {', '.join(map(str, states))}."
            )
        if state.status in ("finished", "running", "queued"):
            raise WavslmError(
                f"trial {number} is {state.status}: only one that has stopped can be run again."
            )
        run_dir = sweep.run_dir(entry)
        if run_dir is None:
            raise WavslmError(
                f"trial {number} cannot run again: {entry.error} Its values were chosen by optuna; change "
                "the axes so that they are not."
            )
        if state.status == "pruned":
            sweep.write(replace(entry, spared=True))
            spare(run_dir)
        clear_error(run_dir)
    return sorted(set(numbers))
