"""How far work is, for who started it and for who looks at it from outside.

On standard error a bar on a terminal, and for training a line now and then elsewhere; in the run's folder
`progress.json`, which `wavslm jobs` reads. To tell costs less than a microsecond but for once every two
seconds, when the file is written. It is renamed into place, so that readers see a whole document, but not
flushed to disk: after a power cut nobody needs it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import FiniteFloat

from wavslm_core.errors import DataError
from wavslm_core.machine.files import replacing
from wavslm_core.machine.json_files import parse_json
from wavslm_core.machine.processes import WHOLE, Share
from wavslm_core.machine.regular_files import read_regular
from wavslm_core.machine.terminal import escaped, new_console, spell_seconds

if TYPE_CHECKING:
    from rich.console import Console

PROGRESS_FILE = "progress.json"
WRITE_EVERY_S = 2.0
RATE_OVER = 30
"""Number of writes, two seconds apart or more, that the rate is a mean over."""
SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class Progress:
    """What a run's `progress.json` says."""

    stage: str
    done: FiniteFloat
    total: FiniteFloat | None
    unit: str
    rate: FiniteFloat | None
    """Units a second over the last minute; None until two writes."""
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


class ProgressFile:
    """Writes a `Progress` to a path, at most every two seconds and when all is done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._job_id = this_job()
        self._restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        self._host = socket.gethostname()
        self._next = 0.0
        self._what: tuple[str, str] | None = None
        self._seen: deque[tuple[float, float]] = deque(maxlen=RATE_OVER)

    def tell(
        self,
        *,
        stage: str,
        done: float,
        total: float | None = None,
        unit: str = "steps",
        loss: float | None = None,
    ) -> None:
        """Say that `done` of `total` units of a stage are done."""
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


class Reporter:
    """Says how far a stage is: on standard error and, in a run, in `file`.

    A silent one, in the processes beside the one that speaks for all, says nothing.
    """

    def __init__(self, stage: str = "", *, file: ProgressFile | None = None, silent: bool = False) -> None:
        self.stage = stage
        self.silent = silent
        self._file = file

    def tell(
        self, done: float, *, total: float | None = None, unit: str = "steps", loss: float | None = None
    ) -> None:
        """Say that `done` of `total` units are done, without a bar."""
        if self._file is not None and not self.silent:
            self._file.tell(stage=self.stage, done=done, total=total, unit=unit, loss=loss)

    @contextmanager
    def bar(self, description: str, *, total: float | None, unit: str) -> Iterator[Callable[[float], None]]:
        """See `progress_bar`."""
        from rich.progress import (
            BarColumn,
            Progress as Bar,
            ProgressColumn,
            Task,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text

        class RateColumn(ProgressColumn):
            def render(self, task: Task) -> Text:
                speed = task.finished_speed or task.speed
                return Text("" if speed is None else f"{speed:,.1f} {unit}/s")

        console = new_console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn(
                "{task.completed:,.0f}" + ("" if total is None else "/{task.total:,.0f}") + f" {unit}"
            ),
            RateColumn(),
            TimeRemainingColumn(),
        )
        with Bar(
            *columns,
            console=console,
            disable=self.silent or not console.is_terminal,
            transient=True,
            # Results on standard output stay there when it goes to a file or another program.
            redirect_stdout=sys.stdout.isatty(),
        ) as drawn:
            task_id = drawn.add_task(escaped(description), total=total)
            done = 0.0
            # The first piece may take minutes.
            self.tell(done, total=total, unit=unit)

            def advance(amount: float) -> None:
                nonlocal done
                done += amount
                drawn.advance(task_id, amount)
                self.tell(done, total=total, unit=unit)

            yield advance

    @contextmanager
    def steps(
        self, description: str, *, total: int, done: int = 0, console: Console | None = None
    ) -> Iterator[Steps]:
        """Show training while the block runs; `done` of `total` steps are done already."""
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress as Bar,
            TextColumn,
            TimeRemainingColumn,
        )

        console = console or new_console(stderr=True, quiet=self.silent)
        with Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            disable=self.silent or not console.is_terminal,
        ) as bar:
            task_id = bar.add_task(description, total=total, completed=done, status="")

            def draw(step: int, status: str) -> bool:
                if not bar.disable:
                    bar.update(task_id, completed=step, status=status)
                return not bar.disable

            yield Steps(self, description, console, draw, total=total, done=done)


class Steps:
    """Loss, rate and time left of training."""

    def __init__(
        self,
        reporter: Reporter,
        description: str,
        console: Console,
        draw: Callable[[int, str], bool],
        *,
        total: int,
        done: int,
    ) -> None:
        """`draw` shows a status on a terminal, and returns whether there is one."""
        self._reporter, self._console, self._draw = reporter, console, draw
        self._description = description
        self._total, self._first = total, done
        self._began = self._last_line = time.monotonic()

    def update(self, step: int, *, loss: float) -> None:
        """Show that `step` steps are done."""
        now = time.monotonic()
        rate = (step - self._first) / max(now - self._began, 1e-9)
        status = f"loss {loss:.4f}  {rate:.2f} steps/s"
        drawn = self._draw(step, status)
        if not drawn and (now - self._last_line >= SECONDS_BETWEEN_LINES or step == self._total):
            self._last_line = now
            left = spell_seconds((self._total - step) / max(rate, 1e-9))
            self.note(f"step {step}/{self._total}  {status}  {left} left")
        self._reporter.tell(step, total=self._total, loss=loss)

    def note(self, text: str) -> None:
        """Say something that stays on the screen."""
        self._console.print(f"{self._description}: {text}", markup=False, highlight=False, soft_wrap=True)


_CURRENT: ContextVar[Reporter | None] = ContextVar("reporter", default=None)


@contextmanager
def reporting(reporter: Reporter) -> Iterator[None]:
    """Let every progress bar inside the block be one of this reporter."""
    token = _CURRENT.set(reporter)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def progress_bar(
    description: str, *, total: float | None, unit: str
) -> AbstractContextManager[Callable[[float], None]]:
    """Show a bar while the block runs; call what it yields with the amount just done.

    `total` is None where it is not known before. Nothing is drawn when standard error is not a terminal, nor
    in the processes beside the one that speaks for all. Inside a run, its folder is told as well.
    """
    return (_CURRENT.get() or Reporter()).bar(description, total=total, unit=unit)


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
