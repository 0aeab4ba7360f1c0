"""How a run does, from what it leaves in its folder and what SLURM says of its jobs.

Nothing of the process that started the run is needed, and SLURM only for runs that it has.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from wavslm_core.errors import WavslmError
from wavslm_core.launching.job_record import JobRecord, read_jobs
from wavslm_core.launching.lock import LOCK_FILE, STALE_S, Holder, is_alive, read_holder
from wavslm_core.launching.run_folder import RECIPE_FILE
from wavslm_core.launching.run_progress import newest_progress
from wavslm_core.launching.slurm_state import JobState, job_states
from wavslm_core.launching.stage_record import STAGES_FILE, StageRecord
from wavslm_core.pulse import Progress

State = Literal[
    "new", "queued", "requeued", "running", "finished", "failed", "interrupted", "pruned", "stale", "unknown"
]
"""`new`: never started. `requeued`: waits to go on. `pruned`: a trial of a sweep that others had
left behind. `stale`: was running, and nothing runs it any more.
`unknown`: SLURM has it and cannot be asked."""


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
    jobs: dict[str, JobState] = field(default_factory=dict)
    """What SLURM knows of them, by the id of the job or task."""
    holder: Holder | None = None
    """The process that has the run, if one is alive."""
    problem: str = ""
    """Why SLURM could not be asked."""

    def job_of(self, record: JobRecord) -> list[JobState]:
        """Return what SLURM knows of a submission: its job, or all tasks of its job array."""
        return [self.jobs[task] for task in record.task_ids if task in self.jobs]

    @property
    def active(self) -> tuple[JobState, ...]:
        """Jobs that wait or run."""
        return tuple(job for job in self.jobs.values() if job.active)


def read_statuses(run_dirs: Sequence[Path]) -> list[RunStatus]:
    """Return how runs do; SLURM is asked once for all. Raises: WavslmError for a damaged folder."""
    records = {run_dir: tuple(read_jobs(run_dir)) for run_dir in run_dirs}
    ids = [
        task
        for run in records.values()
        for record in run
        if record.launcher == "slurm"
        for task in record.task_ids
    ]
    problem, states = "", {}
    if ids:
        try:
            states = job_states(ids)
        except WavslmError as error:
            problem = str(error)
    return [_status(run_dir, records[run_dir], states, problem) for run_dir in run_dirs]


def _status(
    run_dir: Path, records: tuple[JobRecord, ...], known: dict[str, JobState], problem: str
) -> RunStatus:
    own = [task for record in records if record.launcher == "slurm" for task in record.task_ids]
    jobs = {task: known[task] for task in own if task in known}
    entries = StageRecord(run_dir / STAGES_FILE).entries
    holder = _holder(run_dir, jobs)
    state = _state(run_dir, records, jobs, entries, holder, bool(problem and own))
    progress = newest_progress(run_dir)
    running = next((name for name, entry in entries.items() if entry["status"] != "finished"), "")
    if state == "running" and progress is not None:
        # The tasks of a job array do not write stages.json.
        running = progress.stage
    stage = running or next(reversed(entries), "")
    nodes = ",".join(dict.fromkeys(job.nodes for job in jobs.values() if job.active and job.nodes))
    here = progress is not None and progress.stage == stage and state != "finished"
    return RunStatus(
        run_dir,
        state,
        stage,
        nodes or ("" if holder is None else holder.host),
        progress if here else None,
        sum(job.restarts or 0 for job in jobs.values()),
        records,
        jobs,
        holder,
        problem if own else "",
    )


def _state(
    run_dir: Path,
    records: tuple[JobRecord, ...],
    jobs: dict[str, JobState],
    entries: dict[str, dict[str, Any]],
    holder: Holder | None,
    silent: bool,
) -> State:
    active = [job for job in jobs.values() if job.active]
    if any(not job.waits for job in active) or (holder is not None and not active):
        return "running"
    if active:
        return "requeued" if any(job.restarts for job in active) else "queued"
    statuses = [entry["status"] for entry in entries.values()]
    if statuses and all(status == "finished" for status in statuses) and len(statuses) == _stages(run_dir):
        return "finished"
    if silent:
        return "unknown"
    if "failed" in statuses:
        return "failed"
    if "pruned" in statuses:
        return "pruned"
    if "interrupted" in statuses:
        return "interrupted"
    last = [job.state for job in _last_jobs(records, jobs)]
    if any(state not in ("COMPLETED", "CANCELLED") for state in last):
        return "failed"
    if "CANCELLED" in last:
        return "interrupted"
    if "running" in statuses:
        return "stale"
    return "interrupted" if statuses or last else "new"


def _last_jobs(records: tuple[JobRecord, ...], jobs: dict[str, JobState]) -> list[JobState]:
    """Return the jobs of the last chain that was submitted."""
    wanted: set[str] = set()
    found: list[JobState] = []
    for record in last_chain(records):
        wanted.update(record.task_ids)
        found += [jobs[task] for task in record.task_ids if task in jobs]
    return found


def last_chain(records: Sequence[JobRecord]) -> list[JobRecord]:
    """Return the submissions that belong together with the last one, oldest first."""
    chain: list[JobRecord] = []
    for record in reversed(records):
        if chain and record.job_id not in chain[0].depends_on:
            break
        chain.insert(0, record)
    return chain


def _holder(run_dir: Path, jobs: dict[str, JobState]) -> Holder | None:
    """Return the process that has the run; the file of one that died may still be there."""
    for path in (run_dir / LOCK_FILE, *sorted(run_dir.glob(f"{LOCK_FILE}-*"))):
        holder = read_holder(path)
        if holder is None or holder.silent_s > STALE_S:
            continue
        if holder.job_id is not None and holder.job_id in jobs:
            if jobs[holder.job_id].active:
                return holder
        elif holder.host != socket.gethostname() or is_alive(holder, kernel_knows=False):
            return holder
    return None


def _stages(run_dir: Path) -> int:
    """Return how many stages the saved recipe has; -1 without one that can be read."""
    # A folder of hundreds of runs is listed in a moment with the C parser only.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with suppress(OSError, yaml.YAMLError, AttributeError):
        return len(yaml.load((run_dir / RECIPE_FILE).read_text(encoding="utf-8"), loader).get("stages") or [])
    return -1
