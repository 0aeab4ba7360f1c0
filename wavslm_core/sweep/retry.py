"""Runs failed trials of a sweep again, and others that are asked for by their numbers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from wavslm_core.errors import WavslmError
from wavslm_core.run.state import State
from wavslm_core.sweep.folder import SweepFolder, TrialEntry
from wavslm_core.sweep.trial_state import read_trials


def ready_to_retry(sweep: SweepFolder, numbers: Sequence[int]) -> list[int]:
    """Return which trials to run: those asked for, or all that failed; they continue where they stopped.

    Raises: WavslmError when a trial cannot be run again, or none has failed.
    """
    trials = {trial.number: trial for trial in read_trials(sweep).runs}
    entries = {number: trial.entry for number, trial in trials.items()}
    # A trial that failed before its values were chosen has nothing to show for it, but can run.
    trials = {number: trial for number, trial in trials.items() if entries[number] or trial.error}
    # What has the values of another trial does as that one does.
    others = {number: entry.same_as for number, entry in entries.items() if entry and entry.same_as}
    numbers = [others.get(number, number) for number in numbers]
    if not numbers:
        numbers = [number for number, trial in trials.items() if trial.state is State.FAILED]
        numbers = [number for number in numbers if number not in others and not _is_refused(entries[number])]
        if not numbers:
            raise WavslmError(
                f"no trial of {sweep.path} failed. Name those to run again: `wavslm sweep retry "
                f"{sweep.path} 3`; the numbers are those of `wavslm sweep status`."
            )
    for number in numbers:
        entry, trial = entries.get(number), trials.get(number)
        if trial is None:
            raise WavslmError(
                f"{sweep.path} has no trial {number}" + f" yet; it has {', '.join(map(str, trials))}."
            )
        if trial.state.lives or trial.state in (State.FINISHED, State.DAMAGED):
            why = f" ({trial.error})" if trial.error else ""
            raise WavslmError(
                f"trial {number} is {trial.state}{why}: only one that has stopped can be run again."
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
    trials = read_trials(sweep, numbers).runs if numbers else ()
    pruned = [trial.entry for trial in trials if trial.entry and trial.state is State.PRUNED]
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
