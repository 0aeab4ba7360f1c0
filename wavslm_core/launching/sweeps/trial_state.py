"""How a trial does, from what its run's folder holds and what SLURM says: true whoever started it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
BEGIN_ERRORS = "errors"
"""In the sweep's folder: the same of trials that could not even begin."""


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
    """Return how a trial does. `jobs`: number of a trial → its job on SLURM."""
    run_dir = sweep.run_dir(entry)
    if run_dir is None:
        return TrialState("failed", error=entry.error)
    if not (run_dir / RECIPE_FILE).exists():
        return TrialState("waiting")
    job = (jobs or {}).get(entry.same_as or entry.number)
    state = run_state(run_dir, job, prunes=sweep.prunes(entry), registry=sweep.recipe.registry)
    told = read_begin_error(sweep.path, entry.number)
    if told is not None and state.status in ("waiting", "interrupted", "failed"):
        return replace(state, status="failed", error=told)
    return state


def unchosen_state(sweep: SweepFolder, number: int, jobs: Mapping[int, JobState] | None = None) -> TrialState:
    """Return how a trial does whose values are not chosen yet."""
    job = (jobs or {}).get(number)
    if job is not None and job.active:
        return TrialState("queued")
    told = read_begin_error(sweep.path, number)
    if told is None and job is not None and job.state not in ("COMPLETED", "CANCELLED"):
        told = f"ended as {_ended(job)} before it began"
    return TrialState("waiting") if told is None else TrialState("failed", error=told)


def run_state(
    run_dir: Path, job: JobState | None = None, *, prunes: bool = True, registry: Registry | None = None
) -> TrialState:
    """Return how the run in a folder does.

    `job`: the one on SLURM that tells, if any. `prunes`: whether one that was stopped stays stopped.
    """
    recipe = saved_recipe(run_dir, registry=registry)
    record = StageRecord(run_dir / STAGES_FILE)
    stages = [name for name, _ in recipe.named_stages()]
    at = {record.entries[name]["status"]: name for name in stages if name in record.entries}
    # Another one may have made it meanwhile what it is.
    if is_finished(run_dir, registry=registry):
        return TrialState("finished", recipe=recipe)
    if is_held(run_dir):
        return TrialState("running", at.get("running"), recipe=recipe)
    if job is not None and job.active:
        status: Status = "queued" if job.waits else "running"
        return TrialState(status, at.get("running") or at.get("interrupted"), recipe=recipe)
    pruned = read_pruned(run_dir) if prunes else None
    if pruned is not None:
        return TrialState("pruned", pruned.get("stage"), recipe=recipe, pruned=pruned)
    told = _told(run_dir, interrupted="interrupted" in at)
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


def _told(run_dir: Path, *, interrupted: bool) -> str | None:
    """Return the first line of why the last attempt failed, if it left one.

    `interrupted`: a stage was. An error from before that is of an attempt that was taken up since.
    """
    since = (run_dir / STAGES_FILE).stat().st_mtime if interrupted else 0.0
    path = run_dir / ERROR_FILE
    if path.exists() and path.stat().st_mtime >= since:
        return _line(path.read_text(encoding="utf-8"))
    records = read_jobs(run_dir)
    error = first_error(run_dir, records[-1].job_id) if records else None
    return _line(error.message) if error is not None and error.time >= since else None


def _line(text: str) -> str:
    return next(iter(text.splitlines()), "no message")


def _ended(job: JobState) -> str:
    why = job.reason or job.exit_code
    return f"{job.state} ({why})" if why else job.state


def note_error(run_dir: Path, error: Exception) -> None:
    """Leave why a trial failed in its folder, unless somebody else runs it: one line, and the traceback."""
    if not is_held(run_dir):
        _write_error(run_dir / ERROR_FILE, error)


def note_begin_error(sweep: Path, number: int, error: Exception) -> None:
    """Leave in the sweep's folder why a trial could not even begin: it may have no folder yet."""
    _write_error(sweep / BEGIN_ERRORS / f"{number}.txt", error)


def read_begin_error(sweep: Path, number: int) -> str | None:
    """Return the first line of it, if a trial could not begin."""
    try:
        return _line((sweep / BEGIN_ERRORS / f"{number}.txt").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def clear_begin_error(sweep: Path, number: int) -> None:
    """Forget it: the trial has begun."""
    (sweep / BEGIN_ERRORS / f"{number}.txt").unlink(missing_ok=True)


def is_held(run_dir: Path) -> bool:
    """Tell whether a process, on any machine, holds a run's folder."""
    holder = read_holder(run_dir / LOCK_FILE)
    return holder is not None and is_alive(holder, kernel_knows=False)


def _write_error(path: Path, error: Exception) -> None:
    # A job that ran elsewhere brings its own traceback along.
    details = getattr(error, "details", "") or "".join(traceback.format_exception(error))
    with replacing(path) as beside:
        beside.write_text(f"{first_line(error)}\n\n{details}", encoding="utf-8")


def clear_error(run_dir: Path) -> None:
    """Forget how an earlier attempt failed."""
    (run_dir / ERROR_FILE).unlink(missing_ok=True)


def first_line(error: Exception) -> str:
    """Return the first line of what went wrong: the message of what a user can mend, else its type too."""
    if isinstance(error, WavslmError) or hasattr(error, "details"):
        return next(iter(str(error).splitlines()), type(error).__name__)
    return summary(error)
