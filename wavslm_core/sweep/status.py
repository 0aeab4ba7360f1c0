"""A sweep at this moment: a row for each trial."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from wavslm_core.run.run_error import first_line
from wavslm_core.run.state import State
from wavslm_core.sweep.folder import SweepFolder
from wavslm_core.sweep.trial_state import TrialRun, read_trials, value_so_far

ORDER = (
    State.FINISHED,
    State.RUNNING,
    State.REQUEUED,
    State.QUEUED,
    State.NEW,
    State.INTERRUPTED,
    State.UNKNOWN,
    State.PRUNED,
    State.FAILED,
    State.DAMAGED,
)


@dataclass(frozen=True)
class TrialRow:
    """A trial as people want to see it."""

    number: int
    label: str
    state: State
    doing: str
    """The stage that runs, and how far it is."""
    value: float | None
    """The metric, of a trial that has not finished its best one so far."""
    error: str


@dataclass(frozen=True)
class SweepStatus:
    """A sweep at this moment."""

    rows: tuple[TrialRow, ...]
    best: TrialRow | None
    """The best value so far, of any trial."""
    problem: str = ""
    """Why it is not known how its jobs do; trials that seem to have stopped may wait or run then."""

    @property
    def counts(self) -> str:
        """How many trials do what, in words."""
        counts = Counter(row.state for row in self.rows)
        return ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])

    @property
    def has_ended(self) -> bool:
        """Nothing runs or waits in a queue, as far as SLURM was asked and answered."""
        if self.problem:
            return all(row.state.is_over for row in self.rows)
        return not any(row.state.lives for row in self.rows)


def sweep_status(sweep: SweepFolder) -> SweepStatus:
    """Return how a sweep does."""
    trials = read_trials(sweep)
    rows = [_row(sweep, trial) for trial in trials.runs]
    return SweepStatus(tuple(rows), _best(sweep, rows), trials.problem)


def _row(sweep: SweepFolder, trial: TrialRun) -> TrialRow:
    value, error = None, trial.error
    try:
        value = value_so_far(sweep, trial)
    except Exception as damage:
        # Whatever is wrong with one trial, others are to be seen.
        error = error or first_line(damage)
    return TrialRow(trial.number, trial.label, trial.state, _doing(trial), value, error)


def _best(sweep: SweepFolder, rows: list[TrialRow]) -> TrialRow | None:
    metric = sweep.sweep.metric
    known = [(row.value, row) for row in rows if row.value is not None]
    if metric is None or not known:
        return None
    return (min if metric.lower_is_better else max)(known, key=lambda pair: pair[0])[1]


def _doing(trial: TrialRun) -> str:
    run = trial.run
    if run is None or run.state is State.FINISHED:
        return ""
    if run.state is State.PRUNED and run.pruned is not None:
        return f"{run.stage}, step {run.pruned.get('step')}"
    progress = run.progress
    if run.state is not State.RUNNING or progress is None:
        return run.stage
    total = "" if progress.total is None else f"/{progress.total:g}"
    return f"{progress.stage} {progress.done:g}{total} {progress.unit}"
