"""How a run does, from what it leaves in its folder and what SLURM says of its jobs: one answer for lists of
runs, for sweeps, and for whoever stops a run or starts it again.

Nothing of the process that started the run is needed, and SLURM only for runs that it has.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from wavslm_core.errors import WavslmError, summary
from wavslm_core.machine.progress import Progress
from wavslm_core.machine.regular_files import names_in
from wavslm_core.machine.slurm import JobState, job_states
from wavslm_core.run.failure import first_line, read_error
from wavslm_core.run.folder import RECIPE_FILE
from wavslm_core.run.lock_holder import Holder, living_holder
from wavslm_core.run.progress import newest_progress
from wavslm_core.run.records import (
    JOBS_FILE,
    PRUNED_FILE,
    STAGES_FILE,
    JobRecord,
    StageRecord,
    read_jobs,
    read_pruned,
)
from wavslm_core.run.saved_stages import saved_stages

Part = TypeVar("Part")


class State(StrEnum):
    """How a run, or a trial of a sweep, does."""

    NEW = "new"
    """Nothing of it has begun, and nothing waits to begin it."""
    QUEUED = "queued"
    REQUEUED = "requeued"
    """Waits to go on."""
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    """It said why, or what ran it is gone without a word."""
    INTERRUPTED = "interrupted"
    """Somebody stopped it; the same command goes on."""
    PRUNED = "pruned"
    """A trial of a sweep that others had left behind."""
    UNKNOWN = "unknown"
    """SLURM has it and cannot be asked."""
    DAMAGED = "damaged"
    """Its folder cannot be read."""

    @property
    def lives(self) -> bool:
        """Whether something runs it, or waits to."""
        return self in (State.QUEUED, State.REQUEUED, State.RUNNING)

    @property
    def is_over(self) -> bool:
        """Whether the same command would leave it as it is."""
        return self in (State.FINISHED, State.PRUNED)


@dataclass(frozen=True)
class RunStatus:
    """How one run does."""

    run_dir: Path
    state: State
    stage: str = ""
    """The one that runs or ended last."""
    nodes: str = ""
    progress: Progress | None = None
    """How far that stage is; over all tasks of a job array."""
    restarts: int = 0
    records: tuple[JobRecord, ...] = ()
    """All submissions, oldest first."""
    jobs: Mapping[str, JobState] = field(default_factory=dict)
    """What SLURM knows of them, by the id of the job or task."""
    holder: Holder | None = None
    """The process that has the run, if one is alive."""
    problem: str = ""
    """Why SLURM could not be asked."""
    error: str = ""
    """First line of why it failed or cannot be read."""
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name of a stage → its block of the saved recipe, values as text."""
    pruned: Mapping[str, Any] | None = None
    """After which validation it was stopped: `stage`, `step` and the scalars, `valid`."""
    adopted: str | None = None
    """Which stages were taken over from which run, in words."""

    def job_of(self, record: JobRecord) -> list[JobState]:
        """Return what SLURM knows of a submission: its job, or all tasks of its job array."""
        return [self.jobs[task] for task in record.task_ids if task in self.jobs]

    @property
    def active(self) -> tuple[JobState, ...]:
        """Jobs that wait or run."""
        return tuple(job for job in self.jobs.values() if job.active)


@dataclass(frozen=True)
class _Files:
    """What a run's folder says by itself."""

    records: tuple[JobRecord, ...]
    entries: Mapping[str, Mapping[str, Any]]
    """Name of a stage that has begun → its record."""
    stages: Mapping[str, Mapping[str, Any]]
    """Name of a stage → its block of the saved recipe, values as text."""
    pruned: Mapping[str, Any] | None
    damage: str
    """What of it cannot be read, and why."""
    names: frozenset[str]
    """Of everything in the folder."""

    @property
    def statuses(self) -> dict[str, str]:
        """Name of a stage that has begun → how it does."""
        return {name: entry["status"] for name, entry in self.entries.items()}


def read_statuses(
    run_dirs: Sequence[Path],
    *,
    tasks: Mapping[Path, Sequence[str]] | None = None,
    spared: Collection[Path] = (),
) -> list[RunStatus]:
    """Return how runs do; one that cannot be read says so. SLURM is asked once for all.

    `tasks`: run → ids of jobs that its own record may not have. `spared`: runs that were stopped for being
    behind, and are to run to their end all the same.
    """
    tasks, spared = tasks or {}, set(spared)
    read = {run_dir: _read(run_dir, spared=run_dir in spared) for run_dir in run_dirs}
    own = {
        run_dir: list(dict.fromkeys([*_slurm_tasks(files.records), *tasks.get(run_dir, ())]))
        for run_dir, files in read.items()
    }
    problem, states = "", {}
    try:
        states = job_states(task for ids in own.values() for task in ids)
    except WavslmError as error:
        problem = str(error)
    statuses = []
    for run_dir, files in read.items():
        jobs = {task: states[task] for task in own[run_dir] if task in states}
        try:
            status = _status(run_dir, files, jobs, problem if own[run_dir] else "")
        except Exception as error:
            # Whatever is wrong with one run, others are to be seen.
            status = RunStatus(
                run_dir, State.DAMAGED, records=files.records, jobs=jobs, error=_in_words(error)
            )
        statuses.append(status)
    return statuses


def _read(run_dir: Path, *, spared: bool) -> _Files:
    """Return what can be read of a run's files."""
    damage: list[str] = []

    def part(name: str, read: Callable[[], Part], otherwise: Part) -> Part:
        try:
            return read()
        except Exception as error:
            words = _in_words(error)
            damage.append(words if name in words else f"{name} cannot be read: {words}")
            return otherwise

    def begun() -> dict[str, dict[str, Any]]:
        entries = StageRecord(run_dir / STAGES_FILE).entries
        return {name: {**entry, "status": str(entry["status"])} for name, entry in entries.items()}

    records: list[JobRecord] = part(JOBS_FILE, lambda: read_jobs(run_dir), [])
    entries: dict[str, dict[str, Any]] = part(STAGES_FILE, begun, {})
    stages: Mapping[str, Mapping[str, Any]] = part(RECIPE_FILE, lambda: saved_stages(run_dir), {})
    pruned = None if spared else part(PRUNED_FILE, lambda: read_pruned(run_dir), None)
    return _Files(tuple(records), entries, stages, pruned, "; ".join(damage), names_in(run_dir))


def _in_words(error: Exception) -> str:
    return first_line(error) if isinstance(error, WavslmError) else summary(error)


def _slurm_tasks(records: Sequence[JobRecord]) -> list[str]:
    return [task for record in records if record.launcher == "slurm" for task in record.task_ids]


def _status(run_dir: Path, files: _Files, jobs: dict[str, JobState], problem: str) -> RunStatus:
    statuses = files.statuses
    holder = living_holder(
        run_dir, jobs_active=lambda job_id: jobs[job_id].active if job_id in jobs else None, names=files.names
    )
    state, error = _state(run_dir, files, jobs, holder, silent=bool(problem))
    progress = newest_progress(run_dir, names=files.names)
    stage = next((name for name, status in statuses.items() if status != "finished"), "")
    if state is State.RUNNING and progress is not None:
        # The tasks of a job array do not write stages.json.
        stage = progress.stage
    if state is State.PRUNED and files.pruned is not None:
        stage = str(files.pruned.get("stage", stage))
    stage = stage or next(reversed(list(statuses)), "")
    nodes = ",".join(dict.fromkeys(job.nodes for job in jobs.values() if job.active and job.nodes))
    here = progress is not None and progress.stage == stage and state is not State.FINISHED
    return RunStatus(
        run_dir,
        state,
        stage,
        nodes or ("" if holder is None else holder.host),
        progress if here else None,
        sum(job.restarts or 0 for job in jobs.values()),
        files.records,
        jobs,
        holder,
        problem,
        error,
        files.stages,
        files.pruned,
        _adopted(files.entries),
    )


def _adopted(entries: Mapping[str, Mapping[str, Any]]) -> str | None:
    taken: dict[str, list[str]] = {}
    for name, entry in entries.items():
        if "adopted_from" in entry:
            taken.setdefault(entry["adopted_from"], []).append(name)
    return "; ".join(f"{', '.join(names)} from {run}" for run, names in taken.items()) or None


def _state(
    run_dir: Path, files: _Files, jobs: Mapping[str, JobState], holder: Holder | None, *, silent: bool
) -> tuple[State, str]:
    """Return how a run does, and the first line of why it failed.

    `silent`: SLURM has jobs of it and does not answer.
    """
    if files.damage:
        return State.DAMAGED, files.damage
    statuses, active = files.statuses, [job for job in jobs.values() if job.active]
    if files.stages and all(statuses.get(name) == "finished" for name in files.stages):
        return State.FINISHED, ""
    if holder is not None or any(not job.waits for job in active):
        return State.RUNNING, ""
    if active:
        return (State.REQUEUED if any(job.restarts for job in active) else State.QUEUED), ""
    if files.pruned is not None:
        return State.PRUNED, ""
    if silent:
        return State.UNKNOWN, ""
    at = {status: name for name, status in statuses.items()}
    # An error from before an interruption is of an attempt that was taken up since.
    since = (run_dir / STAGES_FILE).stat().st_mtime if "interrupted" in at else 0.0
    told = read_error(run_dir, last_chain(files.records), since=since)
    if told is not None:
        return State.FAILED, told
    if "failed" in at:
        return State.FAILED, f"stage {at['failed']} failed"
    last = _last_jobs(files.records, jobs)
    broken = next((job for job in last if job.state != "COMPLETED" and not job.stopped), None)
    if "running" in at and (broken is not None or not any(job.stopped for job in last)):
        how = "without a word: killed, or out of memory?" if broken is None else f"as {broken.ending}"
        return State.FAILED, f"ended during {at['running']} {how}"
    if "interrupted" in at:
        return State.INTERRUPTED, ""
    if broken is not None:
        return State.FAILED, f"ended as {broken.ending} before it began"
    begun = any("adopted_from" not in entry for entry in files.entries.values())
    return (State.INTERRUPTED if begun or last else State.NEW), ""


def _last_jobs(records: tuple[JobRecord, ...], jobs: Mapping[str, JobState]) -> list[JobState]:
    """Return the jobs of the last chain that was submitted."""
    last = last_chain(records)
    if not last:
        return list(jobs.values())
    return [jobs[task] for record in last for task in record.task_ids if task in jobs]


def last_chain(records: Sequence[JobRecord]) -> list[JobRecord]:
    """Return the submissions that belong together with the last one, oldest first."""
    chain: list[JobRecord] = []
    for record in reversed(records):
        if chain and record.job_id not in chain[0].depends_on:
            break
        chain.insert(0, record)
    return chain
