"""How often a job was started, and whether that gets anywhere: a job that is stopped before its first
checkpoint and queued again would go on like that for ever.

A start counts as useless when nothing was added since the one before: no stage finished, no later
checkpoint of any stage, no further file of tokens, and no stage told (`progress.json`) of more than ever.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import FiniteFloat, NonNegativeInt

from wavslm_core.errors import WavslmError
from wavslm_core.machine.files import write_json
from wavslm_core.machine.json_files import parse_json
from wavslm_core.machine.pulse import read_progress
from wavslm_core.machine.regular_files import read_regular
from wavslm_core.run.job_record import JOBS_FOLDER
from wavslm_core.run.stage_record import STAGES_FILE, StageRecord

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
