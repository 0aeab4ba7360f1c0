"""How a trial does, from what its run's folder holds and what SLURM says: true whoever started it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wavslm_core.data.atomic import replacing
from wavslm_core.errors import WavslmError, summary
from wavslm_core.launching.finished import is_finished
from wavslm_core.launching.job_record import read_jobs
from wavslm_core.launching.lock import LOCK_FILE, is_alive, read_holder
from wavslm_core.launching.prune_files import read_pruned
from wavslm_core.launching.rank_error import first_error
from wavslm_core.launching.run_folder import RECIPE_FILE, saved_recipe
from wavslm_core.launching.slurm_state import JobState
from wavslm_core.launching.stage_record import STAGES_FILE, StageRecord
from wavslm_core.launching.sweeps.folder import SweepFolder, TrialEntry
from wavslm_core.recipe import Recipe
from wavslm_core.registry import Registry

Status = Literal["waiting", "queued", "running", "interrupted", "finished", "pruned", "failed"]

ERROR_FILE = "error.txt"
"""In the folder of a trial that failed: why, in its first line, and the traceback."""


@dataclass(frozen=True)
class TrialState:
    """A trial at this moment."""

    status: Status
    stage: str | None = None
    """The one that runs, failed or was stopped in."""
    error: str | None = None
    """First line of what went wrong."""
    recipe: Recipe | None = None
    """Resolved; None as long as the trial has no folder."""
    pruned: Mapping[str, Any] | None = None
    """`stage`, `step` and the scalars, `valid`, of the validation after which it was stopped."""


def trial_state(
    sweep: SweepFolder, entry: TrialEntry, jobs: Mapping[int, JobState] | None = None
) -> TrialState:
    """Return how a trial does. `jobs`: number of a trial → its last job on SLURM."""
    run_dir = sweep.run_dir(entry)
    if run_dir is None:
        return TrialState("failed", error=entry.error)
    if not (run_dir / RECIPE_FILE).exists():
        return TrialState("waiting")
    return run_state(run_dir, (jobs or {}).get(entry.number), registry=sweep.recipe.registry)


def run_state(run_dir: Path, job: JobState | None = None, *, registry: Registry | None = None) -> TrialState:
    """Return how the run in a folder does. `job`: its last one on SLURM, if any."""
    recipe = saved_recipe(run_dir, registry=registry)
    record = StageRecord(run_dir / STAGES_FILE)
    stages = [name for name, _ in recipe.named_stages()]
    at = {record.entries[name]["status"]: name for name in stages if name in record.entries}
    # Another one may have made it meanwhile what it is.
    if is_finished(run_dir, registry=registry):
        return TrialState("finished", recipe=recipe)
    holder = read_holder(run_dir / LOCK_FILE)
    if holder is not None and is_alive(holder, kernel_knows=False):
        return TrialState("running", at.get("running"), recipe=recipe)
    if job is not None and job.active:
        status: Status = "queued" if job.waits else "running"
        return TrialState(status, at.get("running") or at.get("interrupted"), recipe=recipe)
    pruned = read_pruned(run_dir)
    if pruned is not None:
        return TrialState("pruned", pruned.get("stage"), recipe=recipe, pruned=pruned)
    told = _told(run_dir)
    if told is not None:
        return TrialState("failed", at.get("failed"), told, recipe)
    if "failed" in at:
        return TrialState("failed", at["failed"], f"stage {at['failed']} failed", recipe)
    if "running" in at:
        how = "without a word: killed, or out of memory?" if job is None else f"as {_ended(job)}"
        return TrialState("failed", at["running"], f"ended during {at['running']} {how}", recipe)
    if "interrupted" in at:
        return TrialState("interrupted", at["interrupted"], recipe=recipe)
    if job is not None and job.state not in ("COMPLETED", "CANCELLED"):
        return TrialState("failed", None, f"ended as {_ended(job)} before it began", recipe)
    return TrialState("waiting", recipe=recipe)


def _told(run_dir: Path) -> str | None:
    """Return the first line of why the last attempt failed, if it left one."""
    if (run_dir / ERROR_FILE).exists():
        text = (run_dir / ERROR_FILE).read_text(encoding="utf-8")
    else:
        records = read_jobs(run_dir)
        error = first_error(run_dir, records[-1].job_id) if records else None
        if error is None:
            return None
        text = error.message
    return next(iter(text.splitlines()), "no message")


def _ended(job: JobState) -> str:
    why = job.reason or job.exit_code
    return f"{job.state} ({why})" if why else job.state


def note_error(run_dir: Path, error: Exception) -> None:
    """Leave why a trial failed in its folder: one line, and the traceback."""
    # A job that ran elsewhere brings its own traceback along.
    details = getattr(error, "details", "") or "".join(traceback.format_exception(error))
    write_error_text(run_dir, first_line(error), details)


def write_error_text(run_dir: Path, line: str, details: str) -> None:
    with replacing(run_dir / ERROR_FILE) as beside:
        beside.write_text(f"{line}\n\n{details}", encoding="utf-8")


def clear_error(run_dir: Path) -> None:
    """Forget how an earlier attempt failed."""
    (run_dir / ERROR_FILE).unlink(missing_ok=True)


def first_line(error: Exception) -> str:
    """Return the first line of what went wrong: the message of what a user can mend, else its type too."""
    if isinstance(error, WavslmError) or hasattr(error, "details"):
        return next(iter(str(error).splitlines()), type(error).__name__)
    return summary(error)
