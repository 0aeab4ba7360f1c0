"""Which jobs of SLURM a trial was submitted as, and what SLURM says of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from wavslm_core.data.atomic import write_json
from wavslm_core.errors import WavslmError
from wavslm_core.launching.slurm_state import JobState, job_states
from wavslm_core.launching.sweeps.folder import SweepFolder

TASKS_FILE = "tasks.json"
"""In the sweep's folder: number of a trial → the jobs of its last submission. There are two when it first
computes what others share."""


def trial_jobs(sweep: SweepFolder) -> dict[int, list[JobState]]:
    """Return number of a trial → what SLURM knows of its jobs. Raises: WavslmError without an answer."""
    tasks = _tasks(sweep.path)
    states = job_states(job_id for job_ids in tasks.values() for job_id in job_ids)
    found = {number: [states[one] for one in job_ids if one in states] for number, job_ids in tasks.items()}
    return {number: jobs for number, jobs in found.items() if jobs}


def sweep_jobs(sweep: SweepFolder) -> dict[int, JobState] | None:
    """Return number of a trial → the job that tells how it does: what runs, else what waits, else the last.

    None when SLURM does not answer: then only what is on disk is known.
    """
    try:
        jobs = trial_jobs(sweep)
    except WavslmError:
        return None
    # The last of equals, since `max` returns the first.
    return {number: max(reversed(some), key=_liveliness) for number, some in jobs.items()}


def note_tasks(sweep: SweepFolder, tasks: Mapping[int, Sequence[str]]) -> None:
    """Take note of all jobs that were submitted for trials, instead of earlier ones. Raises: DataError."""
    known = {**_tasks(sweep.path), **tasks}
    document = {str(number): list(job_ids) for number, job_ids in sorted(known.items())}
    write_json(sweep.path / TASKS_FILE, document)


def _liveliness(job: JobState) -> int:
    return job.active + (job.active and not job.waits)


def _tasks(path: Path) -> dict[int, list[str]]:
    try:
        document = json.loads((path / TASKS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {int(number): [str(job_id) for job_id in job_ids] for number, job_ids in document.items()}
