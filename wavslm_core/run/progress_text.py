"""A run's progress in words."""

from __future__ import annotations

from wavslm_core.machine.pulse import Progress
from wavslm_core.machine.terminal import spell_seconds


def progress_cells(progress: Progress | None, *, moving: bool) -> tuple[str, str, str, str]:
    """Return how far, rate, time left and last loss."""
    if progress is None:
        return "", "", "", ""
    total = "" if progress.total is None else f"/{progress.total:,.0f}"
    done = f"{progress.done:,.0f}{total} {progress.unit}"
    loss = "" if progress.loss is None else f"{progress.loss:.4f}"
    if not moving or progress.rate is None:
        return done, "", "", loss
    left = "" if progress.seconds_left is None else spell_seconds(progress.seconds_left)
    return done, f"{progress.rate:,.2f}/s", left, loss


def progress_line(progress: Progress) -> str:
    """Return "train_lm: 120/400 steps  3.20/s  1:28 left  loss 4.1234"."""
    done, rate, left, loss = progress_cells(progress, moving=True)
    words = (done, rate, f"{left} left" if left else "", f"loss {loss}" if loss else "")
    return f"{progress.stage}: {'  '.join(word for word in words if word)}"
