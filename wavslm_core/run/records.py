"""What a run's folder says of its stages, of its jobs, and of being pruned.

`stages.json`: stage → status, when it began first, and the seconds that all attempts took. `jobs.json`: every
job that was submitted for the run, oldest first, so that they are found once the shell that submitted them is
gone. `prune.json` and `pruned.json` of a trial: that it may be stopped for being behind, and that it was.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Required

from pydantic import Field, FiniteFloat
from typing_extensions import TypedDict

from wavslm_core.errors import WavslmError
from wavslm_core.machine.files import write_json
from wavslm_core.machine.json_files import read_json

STAGES_FILE = "stages.json"


class StageEntry(TypedDict, total=False):
    """What is known of a stage."""

    status: Required[str]
    """`running`, `finished`, `interrupted`, `pruned` or `failed`."""
    seconds: Required[FiniteFloat]
    started: str
    """ISO time, as the next one."""
    ended: str
    adopted_from: str
    """The run that it was taken over from."""


class StageRecord:
    """The record at a path, which need not exist. Raises: WavslmError when it is damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            remedy = "Delete it: stages then run again and keep what they find done."
            self.entries = read_json(path, dict[str, StageEntry], remedy=remedy, error=WavslmError)
        except FileNotFoundError:
            self.entries = {}

    def finished(self, name: str) -> bool:
        return name in self.entries and self.entries[name]["status"] == "finished"

    def begin(self, name: str) -> None:
        fresh: StageEntry = {"status": "running", "started": _now(), "seconds": 0.0}
        self.entries.setdefault(name, fresh)["status"] = "running"
        write_json(self.path, self.entries)

    def end(self, name: str, status: str, seconds: float) -> None:
        entry = self.entries[name]
        entry["status"], entry["ended"] = status, _now()
        entry["seconds"] = round(entry["seconds"] + seconds, 3)
        write_json(self.path, self.entries)

    def adopt(self, entries: Mapping[str, StageEntry], *, run: str) -> None:
        """Record stages that another run finished."""
        for name, entry in entries.items():
            self.entries[name] = {**entry, "adopted_from": entry.get("adopted_from", run)}
        write_json(self.path, self.entries)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


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


PRUNE_FILE = "prune.json"
"""Which trial of which sweep it is, as long as it is compared with the others."""
JUDGE = "wavslm_core.sweep.pruning:Pruning"
"""What compares it, built with the run's folder."""
PRUNED_FILE = "pruned.json"
"""After which validation it was stopped: `stage`, `step` and the scalars, `valid`."""


class _Pruned(TypedDict):
    stage: str
    step: int
    valid: dict[str, FiniteFloat | None]


def read_pruned(run_dir: Path) -> dict[str, Any] | None:
    """Return where a trial was stopped for being behind, if it was. Raises: DataError for a damaged note."""
    try:
        return {**read_json(run_dir / PRUNED_FILE, _Pruned, remedy="Delete it: the trial then goes on.")}
    except FileNotFoundError:
        return None


def spare(run_dir: Path) -> None:
    """Compare a run with no other any more, and take back that it was stopped for being behind."""
    for name in (PRUNE_FILE, PRUNED_FILE):
        (run_dir / name).unlink(missing_ok=True)
