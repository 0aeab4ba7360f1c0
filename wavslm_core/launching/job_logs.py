"""Logs of jobs: their new lines as they come, and their last ones."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

_TAIL_BYTES = 64 * 1024
_ERROR = re.compile(
    r"^(?:rank \d+: )?error: |^(?:slurmstepd|srun|sbatch)[^ ]*: error: |^\w*(?:Error|Exception): "
)


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
