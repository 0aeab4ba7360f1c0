"""How far a run is, for whoever looks at it from outside: `progress.json` in its folder.

A beat costs less than a microsecond but for one every two seconds, which writes the file. It is renamed into
place, so that readers see a whole document, but not flushed to disk: after a power cut nobody needs it.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path

from pydantic import FiniteFloat

from wavslm_core.errors import DataError
from wavslm_core.machine.files import replacing
from wavslm_core.machine.json_files import parse_json
from wavslm_core.machine.processes import WHOLE, Share
from wavslm_core.machine.regular_files import read_regular

PROGRESS_FILE = "progress.json"
WRITE_EVERY_S = 2.0
RATE_OVER = 30
"""Number of writes, two seconds apart or more, that the rate is a mean over."""


class Pulse:
    """Tells nobody."""

    def beat(
        self,
        *,
        stage: str,
        done: float,
        total: float | None = None,
        unit: str = "steps",
        loss: float | None = None,
    ) -> None:
        """Say that `done` of `total` units of a stage are done."""


SILENT = Pulse()


@dataclass(frozen=True)
class Progress:
    """What a run's `progress.json` says."""

    stage: str
    done: FiniteFloat
    total: FiniteFloat | None
    unit: str
    rate: FiniteFloat | None
    """Units a second over the last minute; None until two beats."""
    seconds_left: FiniteFloat | None
    loss: FiniteFloat | None
    """The last one; None also when it is no number."""
    time: FiniteFloat
    """Seconds since 1970."""
    host: str
    pid: int
    job_id: str | None
    """SLURM's."""
    restarts: int
    """How often SLURM has queued that job again."""


class RunPulse(Pulse):
    """Writes a `Progress` to a path, at most every two seconds and when all is done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._job_id = this_job()
        self._restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        self._host = socket.gethostname()
        self._next = 0.0
        self._what: tuple[str, str] | None = None
        self._seen: deque[tuple[float, float]] = deque(maxlen=RATE_OVER)

    def beat(
        self,
        *,
        stage: str,
        done: float,
        total: float | None = None,
        unit: str = "steps",
        loss: float | None = None,
    ) -> None:
        now = time.monotonic()
        if now < self._next and (total is None or done < total) and self._what == (stage, unit):
            return
        self._next = now + WRITE_EVERY_S
        if self._what != (stage, unit) or (self._seen and done < self._seen[-1][1]):
            self._what = stage, unit
            self._seen.clear()
        self._seen.append((now, done))
        then, before = self._seen[0]
        rate = (done - before) / (now - then) if now > then and done > before else None
        left = max(0.0, total - done) / rate if rate and total is not None else None
        self._write(
            Progress(
                stage, done, total, unit, rate, left, loss if loss is not None and isfinite(loss) else None,
                time.time(), self._host, os.getpid(), self._job_id, self._restarts,
            )
        )  # fmt: skip

    def _write(self, progress: Progress) -> None:
        if not self.path.parent.is_dir():
            # Taken away meanwhile: not to be made again.
            return
        # Neither a full disk nor a file server that is away ends a run that only wanted to tell.
        with suppress(DataError), replacing(self.path, durable=False) as beside:
            beside.write_text(json.dumps(asdict(progress)) + "\n", encoding="utf-8")


def this_job() -> str | None:
    """Return the id of the SLURM job that this process belongs to, if any."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def progress_path(run_dir: Path, share: Share = WHOLE) -> Path:
    """Return where a process tells: the tasks of a job array have a file each."""
    if not share.partial:
        return run_dir / PROGRESS_FILE
    return run_dir / f"progress-{share.index}-of-{share.count}.json"


def read_progress(path: Path) -> Progress | None:
    """Return what a file says; None without one that can be read."""
    try:
        return parse_json(read_regular(path), Progress)
    except (OSError, ValueError):
        return None


_TOLD: ContextVar[tuple[Pulse, str]] = ContextVar("told", default=(SILENT, ""))


@contextmanager
def telling(pulse: Pulse, stage: str) -> Iterator[None]:
    """Let every progress bar inside the block tell a pulse, too."""
    token = _TOLD.set((pulse, stage))
    try:
        yield
    finally:
        _TOLD.reset(token)


def told() -> tuple[Pulse, str]:
    """Return the pulse that progress bars tell, and the stage that they belong to."""
    return _TOLD.get()
