"""Which job of SLURM a trial was submitted as last, and what SLURM says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from wavslm_core.data.atomic import write_json
from wavslm_core.errors import WavslmError
from wavslm_core.launching.slurm_state import JobState, job_states
from wavslm_core.launching.sweeps.folder import SweepFolder

TASKS_FILE = "tasks.json"
"""In the sweep's folder: number of a trial → the job that was submitted for it last."""


def sweep_jobs(sweep: SweepFolder) -> dict[int, JobState]:
    """Return number of a trial → what SLURM knows of its job. Raises: WavslmError without an answer."""
    tasks = _tasks(sweep.path)
    states = job_states(tasks.values())
    return {number: states[job_id] for number, job_id in tasks.items() if job_id in states}


def known_jobs(sweep: SweepFolder) -> dict[int, JobState]:
    """Return the same; nothing when SLURM does not answer, so that what is on disk can be shown."""
    try:
        return sweep_jobs(sweep)
    except WavslmError:
        return {}


def note_tasks(sweep: SweepFolder, tasks: Mapping[int, str]) -> None:
    """Take note of the jobs that were submitted for trials. Raises: DataError."""
    known = {**_tasks(sweep.path), **tasks}
    write_json(sweep.path / TASKS_FILE, {str(number): job_id for number, job_id in sorted(known.items())})


def _tasks(path: Path) -> dict[int, str]:
    try:
        document = json.loads((path / TASKS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {int(number): str(job_id) for number, job_id in document.items()}
