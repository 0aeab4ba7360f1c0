"""`jobs.json` of a run: every job that was submitted for it, oldest first, so that they are found once the
shell that submitted them is gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field

from wavslm_core.errors import WavslmError
from wavslm_core.machine.files import write_json
from wavslm_core.machine.json_files import read_json

JOBS_FILE = "jobs.json"
JOBS_FOLDER = "jobs"
"""Logs, submission scripts and errors."""
MOST_TASKS = 1_000_000
"""Of a job array: more than any SLURM allows."""


@dataclass(frozen=True)
class JobRecord:
    """One submission; a job array is one."""

    job_id: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    """Of a job array without the number of a task."""
    launcher: str
    """`slurm` or `local`."""
    stages: tuple[str, ...]
    array: Annotated[int, Field(ge=0, le=MOST_TASKS)] | None = None
    """Number of its tasks when it is a job array."""
    depends_on: tuple[str, ...] = ()
    """Jobs that have to succeed before it starts."""
    submitted: str = ""
    """ISO time."""
    logs: tuple[str, ...] = ()
    """Paths of the logs of rank 0, one for each task of an array, relative to the run's folder."""

    @property
    def task_ids(self) -> tuple[str, ...]:
        """Ids of the jobs that SLURM makes of it: `12_0`, `12_1`, … for an array."""
        if self.array is None:
            return (self.job_id,)
        return tuple(f"{self.job_id}_{number}" for number in range(self.array))


def log_path(job_id: str, rank: int = 0) -> str:
    """Return where a process of a job logs, relative to the run's folder: submitit's name."""
    return f"{JOBS_FOLDER}/{job_id}_{rank}_log.out"


def new_record(
    job_id: str,
    launcher: str,
    stages: Iterable[str],
    *,
    array: int | None = None,
    depends_on: Iterable[str] = (),
) -> JobRecord:
    """Return the record of what was just submitted."""
    record = JobRecord(
        job_id,
        launcher,
        tuple(stages),
        array,
        tuple(depends_on),
        datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return JobRecord(**{**asdict(record), "logs": tuple(log_path(task) for task in record.task_ids)})


def read_jobs(run_dir: Path) -> list[JobRecord]:
    """Return the jobs of a run, oldest first. Raises: WavslmError when the file is damaged."""
    path = run_dir / JOBS_FILE
    try:
        remedy = "Delete it once no job of this run is queued or running."
        return read_json(path, list[JobRecord], remedy=remedy, error=WavslmError)
    except FileNotFoundError:
        return []


def add_jobs(run_dir: Path, records: Iterable[JobRecord]) -> None:
    """Append to a run's record. Raises: WavslmError."""
    entries = [asdict(record) for record in (*read_jobs(run_dir), *records)]
    write_json(run_dir / JOBS_FILE, entries)


def drop_jobs(run_dir: Path, records: Iterable[JobRecord]) -> None:
    """Take what was cancelled before anything came of it out of a run's record. Raises: WavslmError."""
    dropped = {record.job_id for record in records}
    entries = [asdict(record) for record in read_jobs(run_dir) if record.job_id not in dropped]
    write_json(run_dir / JOBS_FILE, entries)
