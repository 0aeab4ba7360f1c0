"""Refuses to launch a run that somebody has: jobs of it wait or run, or a process holds its folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wavslm_core.errors import WavslmError
from wavslm_core.launching.job_record import read_jobs
from wavslm_core.launching.lock import LOCK_FILE, held, read_holder
from wavslm_core.launching.slurm_state import queued_states

SUBMIT_LOCK = ".submitting"


@contextmanager
def submitting(run_dir: Path) -> Iterator[None]:
    """Keep others from submitting the run meanwhile. Raises: WavslmError when somebody has it."""
    descriptor = os.open(run_dir / SUBMIT_LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WavslmError(f"{run_dir} is just being submitted by another process.") from None
        except OSError:
            # A file system without flock: two submissions within the same second are not noticed.
            pass
        refuse_queued(run_dir)
        refuse_running(run_dir)
        yield
    finally:
        os.close(descriptor)


def refuse_queued(run_dir: Path) -> None:
    """Raises: WavslmError when SLURM has jobs of this run, naming them."""
    records = [record for record in read_jobs(run_dir) if record.launcher == "slurm"]
    if not records:
        return
    states = queued_states(tuple(record.job_id for record in records)) or {}
    if not states:
        return
    jobs = ", ".join(f"job {job_id} ({state})" for job_id, state in sorted(states.items()))
    holder = read_holder(run_dir / LOCK_FILE)
    running = "" if holder is None else f"; {holder} holds its folder"
    raise WavslmError(
        f"{run_dir} was submitted before: {jobs}{running}. See how it does with `wavslm jobs {run_dir}`, or "
        f"stop it first: wavslm stop {run_dir}"
    )


def refuse_running(run_dir: Path) -> None:
    """Raises: WavslmError when a process of this machine holds the run's folder."""
    descriptor = os.open(run_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise held(run_dir, read_holder(run_dir / LOCK_FILE)) from None
    except OSError:
        return
    finally:
        os.close(descriptor)
