"""Which jobs of SLURM a trial was submitted as, and what SLURM says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wavslm_core.machine.files import write_json
from wavslm_core.machine.json_files import read_json
from wavslm_core.machine.slurm import JobState, job_states
from wavslm_core.sweep.folder import SweepFolder

TASKS_FILE = "tasks.json"
"""In the sweep's folder: number of a trial → the jobs of its last submission. There are two when it first
computes what others share."""


def trial_jobs(sweep: SweepFolder) -> dict[int, list[JobState]]:
    """Return number of a trial → what SLURM knows of its jobs. Raises: WavslmError without an answer."""
    tasks = trial_tasks(sweep)
    states = job_states(job_id for job_ids in tasks.values() for job_id in job_ids)
    found = {number: [states[one] for one in job_ids if one in states] for number, job_ids in tasks.items()}
    return {number: jobs for number, jobs in found.items() if jobs}


def note_tasks(sweep: SweepFolder, tasks: Mapping[int, Sequence[str]]) -> None:
    """Take note of all jobs that were submitted for trials, instead of earlier ones. Raises: WavslmError."""
    known = {**trial_tasks(sweep), **tasks}
    document = {str(number): list(job_ids) for number, job_ids in sorted(known.items())}
    write_json(sweep.path / TASKS_FILE, document)


def trial_tasks(sweep: SweepFolder) -> dict[int, list[str]]:
    """Return number of a trial → ids of its jobs. Raises: WavslmError when the record is damaged."""
    path = sweep.path / TASKS_FILE
    try:
        remedy = "Delete it once no job of this sweep is queued or running."
        return read_json(path, dict[int, list[str]], remedy=remedy)
    except FileNotFoundError:
        return {}
