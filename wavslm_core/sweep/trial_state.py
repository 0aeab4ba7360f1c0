"""How the trials of a sweep do: as the runs that they are, and what only their sweep knows of them."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavslm_core.errors import WavslmError
from wavslm_core.machine.slurm import JobState, job_states
from wavslm_core.recipe.sweep_block import measuring_stage
from wavslm_core.run.failure import first_line, read_error_text, write_error_text
from wavslm_core.run.records import STAGES_FILE
from wavslm_core.run.state import RunStatus, State, read_statuses
from wavslm_core.sweep.folder import SweepFolder, TrialEntry, trial_tasks
from wavslm_core.sweep.metric import best_until, metric_curve, metric_value

BEGIN_ERRORS = "errors"
"""In the sweep's folder: why trials could not even begin; these may have no folder yet."""


@dataclass(frozen=True)
class TrialRun:
    """A trial at this moment."""

    number: int
    entry: TrialEntry | None
    """None as long as its values are not chosen, or when what the sweep knows of it cannot be read."""
    run: RunStatus | None
    """None without a folder of its own."""
    state: State
    error: str = ""
    """First line of what went wrong."""

    @property
    def label(self) -> str:
        if self.entry is None:
            return "" if self.state is State.DAMAGED else "chosen when it starts"
        return self.entry.label


@dataclass(frozen=True)
class Trials:
    """The trials of a sweep at this moment."""

    runs: tuple[TrialRun, ...]
    problem: str = ""
    """Why neither SLURM nor the sweep's record of its jobs tells: what seems to have stopped may run then."""

    def __getitem__(self, number: int) -> TrialRun:
        return next(run for run in self.runs if run.number == number)


def read_trials(sweep: SweepFolder, numbers: Iterable[int] = ()) -> Trials:
    """Return how a sweep's trials do, or some by their numbers; one that cannot be read says so."""
    wanted = list(numbers) or list(range(1, sweep.count + 1))
    entries: dict[int, TrialEntry | None] = {}
    damage: dict[int, str] = {}
    for number in wanted:
        try:
            entries[number] = sweep.entry(number)
        except Exception as error:
            # Whatever is wrong with one trial, others are to be seen.
            entries[number], damage[number] = None, first_line(error)
    problem = ""
    try:
        tasks = trial_tasks(sweep)
    except WavslmError as error:
        tasks, problem = {}, str(error)
    runs = {number: sweep.run_dir(entry) for number, entry in entries.items() if entry is not None}
    statuses = read_statuses(
        list(dict.fromkeys(run_dir for run_dir in runs.values() if run_dir is not None)),
        tasks={
            run_dir: tasks[number]
            for number, run_dir in runs.items()
            if run_dir is not None and number in tasks
        },
        spared=[
            run_dir
            for number, run_dir in runs.items()
            if run_dir is not None and (entry := entries[number]) is not None and not sweep.prunes(entry)
        ],
    )
    by_folder = {status.run_dir: status for status in statuses}
    problem = problem or next((status.problem for status in statuses if status.problem), "")
    unchosen, silent = _unchosen_jobs(tasks, [number for number in wanted if number not in runs])
    found = []
    for number, entry in entries.items():
        run_dir = runs.get(number)
        if number in damage:
            found.append(TrialRun(number, None, None, State.DAMAGED, damage[number]))
        elif entry is None:
            found.append(_unchosen(sweep, number, unchosen.get(number, ())))
        elif run_dir is None:
            found.append(TrialRun(number, entry, None, State.FAILED, entry.error or ""))
        else:
            found.append(_begun(sweep, number, entry, by_folder[run_dir]))
    return Trials(tuple(found), problem or silent)


@dataclass(frozen=True)
class Row:
    """A trial as people see it, and as it is compared."""

    variant: str
    """What it has in common with those that differ in the seed only; empty while its values are not known."""
    settings: Mapping[str, Any]
    """Axis → value, without the seed."""
    seed: int | None
    folder: Path
    state: str
    """`finished` and `pruned` count as results."""
    error: str = ""
    """First line of what went wrong."""
    adopted: str | None = None
    """Stages taken over from another run, in words."""
    value: float | None = None
    """What ranks it: the metric, of a trial that has not finished as far as it came."""
    number: int = 0
    label: str = ""
    doing: str = ""
    """The stage that runs, and how far it is."""


def row_of(sweep: SweepFolder, trial: TrialRun) -> Row:
    """Return a trial as a row of a table; what is wrong with it is an error in the row."""
    entry, value, error = trial.entry, None, trial.error
    try:
        value = value_so_far(sweep, trial)
    except Exception as damage:
        # Whatever is wrong with one trial, others are to be seen.
        error = error or first_line(damage)
    return Row(
        variant="" if entry is None else entry.variant,
        settings={} if entry is None else entry.settings,
        seed=None if entry is None else entry.seed,
        folder=sweep.path.parent / "none" if trial.run is None else trial.run.run_dir,
        state=trial.state,
        error=error,
        adopted=trial.run.adopted if trial.run is not None and trial.state is State.FINISHED else None,
        value=value,
        number=trial.number,
        label=trial.label,
        doing=_doing(trial.run),
    )


def _doing(run: RunStatus | None) -> str:
    if run is None or run.state is State.FINISHED:
        return ""
    if run.state is State.PRUNED and run.pruned is not None:
        return f"{run.stage}, step {run.pruned.get('step')}"
    progress = run.progress
    if run.state is not State.RUNNING or progress is None:
        return run.stage
    total = "" if progress.total is None else f"/{progress.total:g}"
    return f"{progress.stage} {progress.done:g}{total} {progress.unit}"


def _begun(sweep: SweepFolder, number: int, entry: TrialEntry, run: RunStatus) -> TrialRun:
    told = read_begin_error(sweep.path, number, since=run.run_dir / STAGES_FILE)
    if told is not None and run.state in (State.NEW, State.INTERRUPTED, State.FAILED):
        return TrialRun(number, entry, run, State.FAILED, told)
    return TrialRun(number, entry, run, run.state, run.error)


def _unchosen_jobs(tasks: dict[int, list[str]], numbers: list[int]) -> tuple[dict[int, list[JobState]], str]:
    """Return number → jobs of trials whose values are not chosen, and why SLURM cannot be asked."""
    wanted = {number: tasks[number] for number in numbers if number in tasks}
    try:
        states = job_states(task for ids in wanted.values() for task in ids)
    except WavslmError as error:
        return {}, str(error)
    return {number: [states[one] for one in ids if one in states] for number, ids in wanted.items()}, ""


def _unchosen(sweep: SweepFolder, number: int, jobs: Iterable[JobState]) -> TrialRun:
    jobs = list(jobs)
    if any(job.active for job in jobs):
        return TrialRun(number, None, None, State.QUEUED)
    told = read_begin_error(sweep.path, number)
    broken = next((job for job in jobs if job.state != "COMPLETED" and not job.stopped), None)
    if told is None and broken is not None:
        told = f"ended as {broken.ending} before it began"
    if told is None:
        return TrialRun(number, None, None, State.NEW)
    return TrialRun(number, None, None, State.FAILED, told)


def value_so_far(sweep: SweepFolder, trial: TrialRun) -> float | None:
    """Return the metric of a trial; of one that has not finished the best validation so far."""
    metric, run = sweep.sweep.metric, trial.run
    if metric is None or run is None or run.state is State.DAMAGED or not run.stages:
        return None
    stage = None if trial.entry is None else trial.entry.measured_by
    if stage is None and metric.validation is not None:
        # Plugins know which stages train.
        entry = sweep.recipe.registry.entry
        kinds = {name: entry("stage", block["run"]) for name, block in run.stages.items()}
        trains = {name: bool(getattr(kind.config_class, "trains", ())) for name, kind in kinds.items()}
        stage = measuring_stage(metric, trains, source=str(run.run_dir))
    if run.state is State.FINISHED:
        keeps_best = stage is not None and run.stages[stage].get("select") == "best"
        return metric_value(run.run_dir, metric, stage, keeps_best=keeps_best)
    curve = metric_curve(run.run_dir, metric, stage)
    return best_until(curve, float("inf"), lower=metric.lower_is_better)


@contextmanager
def noting_begin_error(sweep: Path, number: int) -> Iterator[None]:
    """Leave in the sweep's folder why the block could not begin a trial: it may have no folder yet."""
    try:
        yield
    except Exception as error:
        # What a full disk adds to it would hide it.
        with suppress(WavslmError, OSError):
            write_error_text(_begin_error(sweep, number), error)
        raise


def read_begin_error(sweep: Path, number: int, *, since: Path | None = None) -> str | None:
    """Return the first line of it, if a trial could not begin; not of one that has `since`, a file, begun."""
    path = _begin_error(sweep, number)
    try:
        if since is not None and path.stat().st_mtime < since.stat().st_mtime:
            return None
    except FileNotFoundError:
        pass
    return read_error_text(path)


def clear_begin_error(sweep: Path, number: int) -> None:
    """Forget it: the trial has begun."""
    _begin_error(sweep, number).unlink(missing_ok=True)


def _begin_error(sweep: Path, number: int) -> Path:
    return sweep / BEGIN_ERRORS / f"{number}.txt"
