"""How far a run is, over all processes that tell of it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path

from wavslm_core.machine.pulse import PROGRESS_FILE, Progress, read_progress
from wavslm_core.machine.regular_files import names_in
from wavslm_core.run.lock_holder import STALE_S

_PART = re.compile(r"progress-\d+-of-(\d+)\.json")


def newest_progress(run_dir: Path, *, names: Iterable[str] | None = None) -> Progress | None:
    """Return the newest progress; that of the tasks of a job array is summed up.

    `names`: of what is in the run's folder, if that was read before.
    """
    whole = read_progress(run_dir / PROGRESS_FILE)
    told = [
        (found[1], part)
        for name in sorted(names_in(run_dir) if names is None else names)
        if (found := _PART.fullmatch(name)) and (part := read_progress(run_dir / name))
    ]
    # An array of another size, or of another stage, may have been here before.
    size, newest = max(told, key=lambda one: one[1].time, default=("", None))
    if newest is None or (whole is not None and whole.time > newest.time):
        return whole
    parts = [part for count, part in told if count == size and part.stage == newest.stage]
    rates = [part.rate for part in parts if part.rate and time.time() - part.time < STALE_S]
    return Progress(
        stage=newest.stage,
        done=sum(part.done for part in parts),
        total=_sum(part.total for part in parts),
        unit=parts[0].unit,
        rate=sum(rates) if rates else None,
        seconds_left=max((part.seconds_left for part in parts if part.seconds_left), default=None),
        loss=None,
        time=newest.time,
        host=",".join(dict.fromkeys(part.host for part in parts)),
        pid=parts[0].pid,
        job_id=(parts[0].job_id or "").partition("_")[0] or None,
        restarts=sum(part.restarts for part in parts),
    )


def _sum(values: Iterable[float | None]) -> float | None:
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total
