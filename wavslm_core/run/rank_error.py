"""`jobs/<job>_<rank>_error.json` of a run: why a process of a job failed, written by itself.

When one process of several fails, the others fail too, a moment later, because they lost it. The files tell
who was first; what died without a word (killed, out of memory) leaves none.
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from wavslm_core.errors import JobCrashed, LostProcessError, WavslmError, summary
from wavslm_core.machine.files import write_json
from wavslm_core.machine.json_files import parse_json
from wavslm_core.machine.regular_files import read_regular
from wavslm_core.run.job_record import JOBS_FOLDER


@dataclass(frozen=True)
class RankError:
    """How one process ended."""

    time: FiniteFloat
    """Seconds since 1970."""
    rank: int
    host: str
    kind: Literal["mendable", "os", "bug", "lost"]
    """What a user can mend, the system's, anything else, or only that another process was lost."""
    message: str
    """In one line, but for what a user can mend."""
    details: str
    """The traceback."""
    errno: Annotated[int, Field(ge=0, lt=4096)] | None = None
    filename: str | None = None

    @property
    def title(self) -> str:
        """First line, with who it was."""
        return f"rank {self.rank} on {self.host}: {next(iter(self.message.splitlines()), 'no message')}"


def describe(error: BaseException, rank: int) -> RankError:
    """Return what an exception tells about the process that caught it."""
    kind: Literal["mendable", "os", "bug", "lost"] = "bug"
    if isinstance(error, LostProcessError):
        kind = "lost"
    elif isinstance(error, WavslmError):
        kind = "mendable"
    elif isinstance(error, OSError) and error.errno is not None:
        kind = "os"
    message = str(error) if isinstance(error, WavslmError) else summary(error)
    system = error if isinstance(error, OSError) else OSError()
    filename = None if system.filename is None else os.fsdecode(system.filename)
    details = "".join(traceback.format_exception(error))
    return RankError(time.time(), rank, socket.gethostname(), kind, message, details, system.errno, filename)


def error_path(run_dir: Path, job_id: str, rank: int) -> Path:
    """Return where a process of a job writes how it failed."""
    return run_dir / JOBS_FOLDER / f"{job_id}_{rank}_error.json"


def write_error(run_dir: Path, job_id: str, error: RankError) -> None:
    """Leave it in the run's folder; a full disk does not hide it."""
    with suppress(WavslmError):
        write_json(error_path(run_dir, job_id, error.rank), asdict(error))


def first_error(run_dir: Path, job_id: str) -> RankError | None:
    """Return why a job failed: the earliest error that is not about another process, if there is any."""
    errors: list[RankError] = []
    for path in (run_dir / JOBS_FOLDER).glob(f"{job_id}_*_error.json"):
        # `12_3_error.json` is rank 3 of job 12, or a part of the name of rank 0 of task 3 of array 12.
        if path.name.removeprefix(f"{job_id}_").removesuffix("_error.json").isdigit():
            with suppress(OSError, ValueError):
                errors.append(parse_json(read_regular(path), RankError))
    return min(errors, key=lambda error: (error.kind == "lost", error.time), default=None)


def to_exception(error: RankError) -> Exception:
    """Return what a launcher raises for the error of a job."""
    if error.kind == "os":
        return OSError(error.errno, os.strerror(error.errno or 0), error.filename)
    if error.kind == "bug":
        return JobCrashed(error.message, error.details)
    return WavslmError(error.message)
