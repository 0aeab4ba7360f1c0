"""Logs of runs: their new lines as they come, and their last ones; and the one of a run without a job's."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from wavslm_core.errors import WavslmError, summary
from wavslm_core.machine.files import open_in_place

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
