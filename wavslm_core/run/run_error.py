"""`error.txt` of a run: why its last attempt on this machine failed, in the first line, and the traceback."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from wavslm_core.errors import WavslmError, summary
from wavslm_core.machine.files import replacing
from wavslm_core.machine.regular_files import read_log
from wavslm_core.run.job_record import JobRecord
from wavslm_core.run.lock_holder import living_holder
from wavslm_core.run.rank_error import first_error

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
    with replacing(path) as beside:
        beside.write_text(f"{first_line(error)}\n\n{details}", encoding="utf-8")


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
