"""Ctrl-C and SIGTERM: the first asks the run to stop at the next safe point, the second leaves at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

EXIT_INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Context that turns signals into a question that stages ask: `stop()` → has one arrived?

    Outside the main thread, where Python cannot handle signals, nothing is installed.
    """

    def __init__(self) -> None:
        self._requested = False
        self._previous: dict[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        return self._requested

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            # Files are written beside and renamed, so leaving here loses nothing. A progress bar hides the
            # cursor of a terminal; give it back.
            _tell("\x1b[?25h\n" if sys.stderr.isatty() else "")
            os._exit(EXIT_INTERRUPTED)
        self._requested = True
        _tell("\nstopping at the next safe point; once more to leave at once\n")


def _tell(text: str) -> None:
    """Write past Python's buffers, which a signal handler must not re-enter."""
    os.write(2, text.encode())
