"""`<run>/stop`: asks a run to save at the next safe point and to end for good, wherever its processes are.

A signal to a job means that somebody wants its place, so it is queued again; this file means that nobody
wants the run to go on. Launching the run once more takes it away.
"""

from __future__ import annotations

import time
from pathlib import Path

from wavslm_core.machine.files import replacing

STOP_FILE = "stop"
LOOK_EVERY_S = 1.0
"""A file system that many machines share should not be asked at every step."""


def request_stop(run_dir: Path) -> None:
    """Ask the run to end. Raises: DataError when its folder cannot be written."""
    with replacing(run_dir / STOP_FILE) as beside:
        beside.touch()


def clear_stop(run_dir: Path) -> None:
    """Take the request back."""
    (run_dir / STOP_FILE).unlink(missing_ok=True)


class StopFile:
    """Answers whether the file is there, looking at most once a second."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / STOP_FILE
        self._looked = -LOOK_EVERY_S
        self._there = False

    def __call__(self) -> bool:
        now = time.monotonic()
        if not self._there and now - self._looked >= LOOK_EVERY_S:
            self._looked = now
            self._there = self.path.exists()
        return self._there
