"""A sweep at this moment: a row for each trial."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from wavslm_core.launching.sweeps.folder import SweepFolder
from wavslm_core.launching.sweeps.jobs import sweep_jobs
from wavslm_core.launching.sweeps.results import value_so_far
from wavslm_core.launching.sweeps.trial_state import Status, TrialState, trial_state, unchosen_state
from wavslm_core.pulse import progress_path, read_progress

ORDER: tuple[Status, ...] = ("finished", "running", "queued", "waiting", "interrupted", "pruned", "failed")


@dataclass(frozen=True)
class TrialRow:
    """A trial as people want to see it."""

    number: int
    label: str
    status: Status
    doing: str
    """The stage that runs, and how far it is."""
    value: float | None
    """The metric, of a trial that has not finished its best one so far."""
    error: str | None


@dataclass(frozen=True)
class SweepStatus:
    """A sweep at this moment."""

    rows: tuple[TrialRow, ...]
    best: TrialRow | None
    """The best value so far, of any trial."""
    answered: bool = True
    """SLURM said how its jobs do; without an answer, trials that seem to have stopped may wait or run."""

    @property
    def counts(self) -> str:
        """How many trials do what, in words."""
        counts = Counter(row.status for row in self.rows)
        return ", ".join(f"{counts[status]} {status}" for status in ORDER if counts[status])

    @property
    def has_ended(self) -> bool:
        """Nothing runs or waits in a queue, as far as SLURM was asked and answered."""
        if not self.answered:
            return all(row.status in ("finished", "pruned") for row in self.rows)
        return not any(row.status in ("running", "queued") for row in self.rows)


def sweep_status(sweep: SweepFolder) -> SweepStatus:
    """Return how a sweep does."""
    jobs = sweep_jobs(sweep)
    rows = []
    for number in range(1, sweep.count + 1):
        entry = sweep.entry(number)
        if entry is None:
            state = unchosen_state(sweep, number, jobs)
            rows.append(TrialRow(number, "chosen when it starts", state.status, "", None, state.error))
            continue
        state = trial_state(sweep, entry, jobs)
        run_dir = sweep.run_dir(entry)
        value = None if run_dir is None else value_so_far(sweep, run_dir, state)
        doing = "" if run_dir is None else _doing(run_dir, state)
        rows.append(TrialRow(number, entry.label, state.status, doing, value, state.error))
    return SweepStatus(tuple(rows), _best(sweep, rows), answered=jobs is not None)


def _best(sweep: SweepFolder, rows: list[TrialRow]) -> TrialRow | None:
    metric = sweep.sweep.metric
    known = [(row.value, row) for row in rows if row.value is not None]
    if metric is None or not known:
        return None
    return (min if metric.lower_is_better else max)(known, key=lambda pair: pair[0])[1]


def _doing(run_dir: Path, state: TrialState) -> str:
    if state.status == "pruned" and state.pruned is not None:
        return f"{state.stage}, step {state.pruned.get('step')}"
    if state.status != "running":
        return "" if state.status == "finished" else state.stage or ""
    progress = read_progress(progress_path(run_dir))
    if progress is None or progress.stage != state.stage:
        return state.stage or ""
    total = "" if progress.total is None else f"/{progress.total:g}"
    return f"{progress.stage} {progress.done:g}{total} {progress.unit}"
