"""What asks a run to stop at the next safe point: Ctrl-C, SIGTERM, a cluster's signal, or the file `stop`.

At a terminal the second Ctrl-C leaves at once. A job of a cluster is told several times, and each means the
same: save, and make room. A signal to a job means that somebody wants its place, so it is queued again; the
file `<run>/stop` means that nobody wants the run to go on, wherever its processes are. Launching the run once
more takes it away.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from wavslm_core.errors import EXIT_INTERRUPTED
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


AT_A_TERMINAL = (signal.SIGINT, signal.SIGTERM)
IN_A_JOB = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class StopRequest:
    """Context that turns signals into a question that stages ask: `stop()` → was the run asked to stop?

    Outside the main thread, where Python cannot handle signals, only the file counts. A signal that this
    process was started to ignore stays ignored: whoever did that (nohup, a launcher) speaks another way.
    """

    def __init__(
        self,
        run_dir: Path | None = None,
        *,
        signals: tuple[signal.Signals, ...] = AT_A_TERMINAL,
        patient: bool = False,
    ) -> None:
        """`run_dir`: whose `stop` file is looked at, too. `patient`: never leave at once."""
        self.number: int | None = None
        """The first signal that came."""
        self.filed: Callable[[], bool] = (lambda: False) if run_dir is None else StopFile(run_dir)
        """Whether the file asked for it."""
        self._signals = signals
        self._patient = patient
        self._previous: dict[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        return self.number is not None or self.filed()

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in self._signals:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._patient:
            if self.number is None:
                _tell(f"\n{signal.Signals(number).name}: stopping at the next safe point\n")
            self.number = number if self.number is None else self.number
            return
        if self.number is not None and number != signal.SIGUSR2:
            # Files are written beside and renamed, so leaving here loses nothing. A progress bar hides the
            # cursor of a terminal; give it back.
            _tell("\x1b[?25h\n" if sys.stderr.isatty() else "")
            os._exit(EXIT_INTERRUPTED)
        self.number = number
        _tell("\nstopping at the next safe point; once more to leave at once\n")


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Let Ctrl-C pass by the processes that the block starts, and reach this one once it is through.

    A terminal sends it to all. Unlike an ignored one, a blocked signal is kept, not lost.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait until the block is through, and raise KeyboardInterrupt then.

    For what must not be left half done, such as a job that is submitted and not yet taken note of.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    # Other threads may get the signal in spite of the block; Python then calls this in the main one.
    handler = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        with interrupts_blocked():
            yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if came and callable(handler):
        handler(signal.SIGINT, None)


def _tell(text: str) -> None:
    """Write past Python's buffers, which a signal handler must not re-enter."""
    os.write(2, text.encode())
