"""Why a run failed, and where it says so.

Logs: their new lines as they come, their last ones, and the one of a run without a job's. `jobs/<job>_<rank>_
error.json`: why a process of a job failed, written by itself. When one of several fails, the others fail too,
a moment later, because they lost it; the files tell who was first, and what died without a word (killed, out
of memory) leaves none. `error.txt`: why the last attempt on this machine failed, in the first line, and the
traceback.
"""

import os
import re
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from wavslm_core.errors import JobCrashed, LostProcessError, WavslmError, summary
from wavslm_core.machine.files import open_in_place, write_json, write_text
from wavslm_core.machine.json_files import parse_json
from wavslm_core.machine.regular_files import read_log, read_regular
from wavslm_core.run.lock_holder import living_holder
from wavslm_core.run.records import JOBS_FOLDER, JobRecord

RUN_LOG = "log.txt"
"""What a run in the process of its command said; jobs have logs of their own."""
_TAIL_BYTES = 64 * 1024
_ERROR = re.compile(
    r"^(?:rank \d+: )?error: |^(?:slurmstepd|srun|sbatch)[^ ]*: error: |^\w*(?:Error|Exception): "
)


@contextmanager
def keeping_log(run_dir: Path, say: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """Yield what says a line and appends it to the run's log, at whose end the block's error stands."""

    def write(text: str) -> None:
        # A disk that is full is for what the run itself writes to notice.
        with suppress(OSError, WavslmError):
            descriptor = open_in_place(run_dir / RUN_LOG, os.O_WRONLY | os.O_APPEND)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(f"{text}\n")

    def say_and_keep(line: str) -> None:
        say(line)
        write(line)

    write(f"began {datetime.now().astimezone().isoformat(timespec='seconds')}")
    try:
        yield say_and_keep
    except Exception as error:
        write(f"error: {error if isinstance(error, WavslmError) else summary(error)}")
        raise


class GrowingLog:
    """A file that another process appends to; it need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._position = 0
        self._rest = b""

    def skip(self) -> None:
        """Leave out what is there already."""
        self._position = self.path.stat().st_size if self.path.exists() else 0

    def new_lines(self, *, ended: bool = False) -> list[str]:
        """Return the lines that were finished since the last call; with `ended`, the unfinished one too."""
        try:
            with self.path.open("rb") as stream:
                if os.fstat(stream.fileno()).st_size < self._position:
                    # Written anew, as by a job that was started again.
                    self._position, self._rest = 0, b""
                stream.seek(self._position)
                *lines, self._rest = (self._rest + stream.read()).split(b"\n")
                self._position = stream.tell()
        except FileNotFoundError:
            return []
        if ended and self._rest:
            lines.append(self._rest)
            self._rest = b""
        return [line.decode(errors="replace").rstrip("\r") for line in lines]


def follow_logs(
    logs: Sequence[tuple[str, GrowingLog]],
    say: Callable[[str], None],
    *,
    ended: Callable[[], bool],
    every_s: float,
) -> None:
    """Say the new lines of (label, log) pairs, each behind its label, until nobody writes any more.

    `ended`: asked before each look, so that the last lines are said, too.
    """
    over = False
    while not over:
        over = ended()
        for label, log in logs:
            for line in log.new_lines(ended=over):
                say(f"{label}{line}")
        if not over:
            time.sleep(every_s)


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a log that are not empty; none without a log."""
    lines = [line for line in _tail(path) if line.strip()]
    return lines[max(0, len(lines) - count) :]


def error_line(paths: Iterable[Path]) -> str | None:
    """Return the first line near the end of the logs that looks like an error, if there is any."""
    for path in paths:
        for line in _tail(path):
            if _ERROR.match(line):
                return line
    return None


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, size - _TAIL_BYTES))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return lines[1:] if size > _TAIL_BYTES else lines


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


ERROR_FILE = "error.txt"


@contextmanager
def noting_failure(run_dir: Path) -> Iterator[None]:
    """Leave in a run's folder what the block raises."""
    try:
        yield
    except Exception as error:
        # What a full disk or a lost folder adds to it would hide it.
        with suppress(WavslmError, OSError):
            note_error(run_dir, error)
        raise


def note_error(run_dir: Path, error: Exception) -> None:
    """Leave why a run failed in its folder, unless somebody else runs it. Raises: DataError."""
    if living_holder(run_dir) is None:
        write_error_text(run_dir / ERROR_FILE, error)


def write_error_text(path: Path, error: Exception) -> None:
    """Write the first line of an error and its traceback. Raises: DataError."""
    # A job that ran elsewhere brings its own traceback along.
    details = getattr(error, "details", "") or "".join(traceback.format_exception(error))
    write_text(path, f"{first_line(error)}\n\n{details}")


def read_error_text(path: Path) -> str | None:
    """Return the first line of an error's file; None without one."""
    try:
        text = read_log(path)
    except FileNotFoundError:
        return None
    return next(iter(text.splitlines()), "no message")


def clear_error(run_dir: Path) -> None:
    """Forget how an earlier attempt failed."""
    (run_dir / ERROR_FILE).unlink(missing_ok=True)


def read_error(run_dir: Path, records: Sequence[JobRecord], *, since: float) -> str | None:
    """Return the first line of why the last attempt failed, if it left one after a time in seconds.

    `records`: its jobs, oldest first.
    """
    path = run_dir / ERROR_FILE
    if path.exists() and path.stat().st_mtime >= since:
        return read_error_text(path)
    for record in records:
        for task in record.task_ids:
            error = first_error(run_dir, task)
            if error is not None and error.time >= since:
                return next(iter(error.message.splitlines()), "no message")
    return None


def first_line(error: Exception) -> str:
    """Return the first line of what went wrong: the message of what a user can mend, else its type too."""
    if isinstance(error, WavslmError) or hasattr(error, "details"):
        return next(iter(str(error).splitlines()), type(error).__name__)
    return summary(error)
