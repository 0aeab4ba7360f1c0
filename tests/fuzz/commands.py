"""Calls commands in this process and judges how they end: well or with one clear error, and soon."""

import io
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from typing import Any

FINE = (0, 2, 130)
"""Exit codes of what went well, of what a person can mend, and of what was interrupted."""


class TooSlow(BaseException):
    """Raised in the middle of a command whose time is up."""


@dataclass(frozen=True)
class Ending:
    """How a command ended."""

    command: tuple[str, ...]
    code: int
    seconds: float
    """Of the processor: others may use the machine."""
    output: str
    errors: str

    def problem(self, *, most_s: float) -> str:
        """Return what is wrong with it; empty when nothing is."""
        if self.code not in FINE:
            return f"exit code {self.code}: {self.errors.strip()[-600:]}"
        if "Traceback" in self.errors + self.output:
            return f"a traceback: {self.errors[-600:]}"
        if self.code == 2 and not self.errors.strip():
            return "an error without a word"
        if len(self.errors) > 100_000:
            return f"{len(self.errors)} letters of errors: {self.errors[:200]}"
        if self.seconds > most_s:
            return f"{self.seconds:.1f} s: {self.errors.strip()[-200:]}"
        return ""


def call(*command: str, patience_s: float) -> Ending:
    """Run a command as if it had been typed; an endless one is ended after `patience_s` of the clock."""
    from wavslm_core.cli import main, run

    program: Any = {"wavslm": main, "wavslm-run": run}[command[0]]
    output, errors = io.StringIO(), io.StringIO()
    before, began = sys.argv, time.process_time()
    sys.argv = list(command)
    code = 0
    try:
        with redirect_stdout(output), redirect_stderr(errors), _patience(patience_s):
            program.main()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except TooSlow:
        code = -1
        errors.write(f"\nit did not end within {patience_s:.0f} s")
    finally:
        sys.argv = before
    return Ending(command, code, time.process_time() - began, output.getvalue(), errors.getvalue())


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    def end(*_: object) -> None:
        raise TooSlow

    previous = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        with suppress(TypeError):
            signal.signal(signal.SIGALRM, previous)
