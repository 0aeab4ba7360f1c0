"""Runs failed trials of a sweep again, and others that are asked for by their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from wavslm_core.errors import WavslmError
from wavslm_core.launching.sweeps.folder import SweepFolder, TrialEntry
from wavslm_core.launching.sweeps.jobs import sweep_jobs
from wavslm_core.launching.sweeps.trial_state import trial_state, unchosen_state


def ready_to_retry(sweep: SweepFolder, numbers: Sequence[int]) -> list[int]:
    """Return which trials to run: those asked for, or all that failed; they continue where they stopped.

    Raises: WavslmError when a trial cannot be run again, or none has failed.
    """
    jobs = sweep_jobs(sweep)
    entries = {number: sweep.entry(number) for number in range(1, sweep.count + 1)}
    states = {
        number: unchosen_state(sweep, number, jobs) if entry is None else trial_state(sweep, entry, jobs)
        for number, entry in entries.items()
    }
    # A trial that failed before its values were chosen has nothing to show for it, but can run.
    states = {number: state for number, state in states.items() if entries[number] or state.error}
    # What has the values of another trial does as that one does.
    others = {number: entry.same_as for number, entry in entries.items() if entry and entry.same_as}
    numbers = [others.get(number, number) for number in numbers]
    if not numbers:
        numbers = [number for number, state in states.items() if state.status == "failed"]
        numbers = [number for number in numbers if number not in others and not _is_refused(entries[number])]
        if not numbers:
            raise WavslmError(
                f"no trial of {sweep.path} failed. Name those to run again: `wavslm sweep retry "
                f"{sweep.path} 3`; the numbers are those of `wavslm sweep status`."
            )
    for number in numbers:
        entry, state = entries.get(number), states.get(number)
        if state is None:
            raise WavslmError(
                f"{sweep.path} has no trial {number}" + f" yet; it has {', '.join(map(str, states))}."
            )
        if state.status in ("finished", "running", "queued"):
            raise WavslmError(
                f"trial {number} is {state.status}: only one that has stopped can be run again."
            )
        if entry is not None and entry.run is None:
            raise WavslmError(
                f"trial {number} cannot run again: {entry.error} Its values were chosen by optuna; change "
                "the axes so that they are not."
            )
    return sorted(set(numbers))


@contextmanager
def sparing(sweep: SweepFolder, numbers: Sequence[int]) -> Iterator[None]:
    """Let these trials run to their end though they were stopped for being behind, unless this fails."""
    before = [entry for entry in map(sweep.entry, numbers) if entry is not None]
    pruned = [entry for entry in before if trial_state(sweep, entry).status == "pruned"]
    for entry in pruned:
        sweep.write(replace(entry, spared=True))
    try:
        yield
    except BaseException:
        for entry in pruned:
            sweep.write(entry)
        raise


def _is_refused(entry: TrialEntry | None) -> bool:
    """Tell whether a trial's values make no valid recipe."""
    return entry is not None and entry.run is None
