"""What a person sees while training: a bar on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from wavslm_core.machine.terminal import new_console, spell_seconds

SECONDS_BETWEEN_LINES = 10.0


class TrainingProgress:
    """Loss, rate and time left; writes to standard error, so that results on standard output stay clean."""

    def __init__(
        self,
        name: str,
        *,
        steps: int,
        start_step: int = 0,
        console: Console | None = None,
        shown: bool = True,
    ) -> None:
        """`shown` is false in the processes beside the one that speaks for all."""
        self.name = name
        self.steps = steps
        self._console = console or new_console(stderr=True, quiet=not shown)
        self._start_step = start_step
        self._started = self._last_line = time.monotonic()
        self._bar: Progress | None = None
        if self._console.is_terminal and shown:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[status]}"),
                TimeRemainingColumn(compact=True, elapsed_when_finished=True),
                console=self._console,
            )
            self._row = self._bar.add_task(name, total=steps, completed=start_step, status="")

    def update(self, step: int, *, loss: float) -> None:
        """Show that `step` steps are done."""
        now = time.monotonic()
        rate = (step - self._start_step) / max(now - self._started, 1e-9)
        status = f"loss {loss:.4f}  {rate:.2f} steps/s"
        if self._bar is not None:
            self._bar.update(self._row, completed=step, status=status)
        elif now - self._last_line >= SECONDS_BETWEEN_LINES or step == self.steps:
            self._last_line = now
            left = spell_seconds((self.steps - step) / max(rate, 1e-9))
            self._say(f"{self.name}: step {step}/{self.steps}  {status}  {left} left")

    def note(self, text: str) -> None:
        """Say something that stays on the screen."""
        self._say(f"{self.name}: {text}")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
