"""Progress bars on standard error: what is being done, how far, how fast, and how long it still takes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from wavslm_core.machine.pulse import told
from wavslm_core.machine.terminal import escaped, new_console


@contextlib.contextmanager
def progress_bar(
    description: str, *, total: float | None, unit: str, shown: bool = True
) -> Iterator[Callable[[float], None]]:
    """Show a bar while the block runs; call what it yields with the amount just done.

    `total` is None where it is not known before.
    Nothing is drawn when standard error is not a terminal, or without `shown`. Inside a run, its pulse is
    told as well.
    """
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.1f} {unit}/s")

    console = new_console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}" + ("" if total is None else "/{task.total:,.0f}") + f" {unit}"),
        RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns,
        console=console,
        disable=not (shown and console.is_terminal),
        transient=True,
        # Results on standard output stay there when it goes to a file or another program.
        redirect_stdout=sys.stdout.isatty(),
    ) as progress:
        task_id = progress.add_task(escaped(description), total=total)
        pulse, stage = told()
        done = 0.0
        if shown:
            # The first piece may take minutes.
            pulse.beat(stage=stage, done=done, total=total, unit=unit)

        def advance(amount: float) -> None:
            nonlocal done
            done += amount
            progress.advance(task_id, amount)
            if shown:
                pulse.beat(stage=stage, done=done, total=total, unit=unit)

        yield advance
