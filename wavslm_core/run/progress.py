"""How far a run is, over all processes that tell of it, and whether starting it again gets anywhere.

A job that is stopped before its first checkpoint and queued again would go on like that for ever. A start
counts as useless when nothing was added since the one before: no stage finished, no later checkpoint of any
stage, no further file of tokens, and no stage told (`progress.json`) of more than ever.
"""

import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import FiniteFloat, NonNegativeInt

from wavslm_core.errors import WavslmError
from wavslm_core.machine.files import write_json
from wavslm_core.machine.json_files import parse_json
from wavslm_core.machine.progress import PROGRESS_FILE, Progress, read_progress
from wavslm_core.machine.regular_files import names_in, read_regular
from wavslm_core.machine.terminal import spell_seconds
from wavslm_core.run.lock_holder import STALE_S
from wavslm_core.run.records import JOBS_FOLDER, STAGES_FILE, StageRecord

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


_STEP = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class Starts:
    """The starts of one job."""

    count: NonNegativeInt = 0
    useless: NonNegativeInt = 0
    """Restarts in a row that found nothing new."""
    mark: tuple[FiniteFloat, ...] = ()
    """The furthest that the run had got, as `progress_mark`."""

    @property
    def restarts(self) -> int:
        return max(0, self.count - 1)


def progress_mark(run_dir: Path) -> tuple[float, ...]:
    """Return numbers of which one grows whenever a run gets further."""
    record = StageRecord(run_dir / STAGES_FILE)
    finished = sum(entry.get("status") == "finished" for entry in record.entries.values())
    newest: dict[str, int] = {}
    for path in (run_dir / "checkpoints").glob("*/*"):
        if found := _STEP.match(path.name):
            # From one on, so that a checkpoint of step 0 counts, too.
            newest[path.parent.name] = max(newest.get(path.parent.name, 0), int(found.group(1)) + 1)
    stores = (run_dir / "tokens", *run_dir.glob("[!.]*/tokens"))
    shards = sum(1 for folder in stores for path in folder.rglob("[!.]*") if path.is_file())
    told = filter(None, map(read_progress, run_dir.glob("progress*.json")))
    # Of a stage that has ended, the next one's smaller numbers would be compared with it.
    done = sum(progress.done for progress in told if not record.finished(progress.stage))
    return finished, sum(newest.values()), shards, done


def starts_path(run_dir: Path, job_id: str) -> Path:
    return run_dir / JOBS_FOLDER / f"{job_id}_starts.json"


def read_starts(run_dir: Path, job_id: str) -> Starts:
    """Return what is known of a job's starts."""
    try:
        return parse_json(read_regular(starts_path(run_dir, job_id)), Starts)
    except (OSError, ValueError):
        return Starts()


def count_start(run_dir: Path, job_id: str, *, max_restarts: int) -> Starts:
    """Record that a job starts. Raises: WavslmError when it was restarted in vain too often."""
    before = read_starts(run_dir, job_id)
    mark = progress_mark(run_dir)
    useless = 0
    if before.count and not any(now > then for now, then in zip(mark, before.mark, strict=False)):
        useless = before.useless + 1
        mark = before.mark
    starts = Starts(before.count + 1, useless, mark)
    write_json(starts_path(run_dir, job_id), asdict(starts))
    if useless > max_restarts:
        raise WavslmError(
            f"job {job_id} was restarted {useless} times in a row without getting any further, so it stops "
            f"here (launch.max_restarts is {max_restarts}). Something is slower than the time that the job "
            "has: save more often (checkpoint_every), or give it more (launch.timeout_min, "
            "launch.signal_delay_s)."
        )
    return starts
