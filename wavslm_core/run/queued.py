"""Refuses to launch a run that somebody has: jobs of it wait or run, or a process holds its folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from wavslm_core.errors import WavslmError
from wavslm_core.machine.files import open_in_place, unwritable
from wavslm_core.machine.locks import take_lock
from wavslm_core.machine.slurm import job_states
from wavslm_core.machine.terminal import Say
from wavslm_core.run.lock import held
from wavslm_core.run.lock_holder import LOCK_FILE, certain_holder, living_holder, read_holder
from wavslm_core.run.records import JOBS_FILE, read_jobs

SUBMIT_LOCK = ".submitting"


@contextmanager
def submitting(run_dir: Path, say: Say) -> Iterator[None]:
    """Keep others from submitting the run meanwhile; `say` hears of what is waited for.

    Raises: WavslmError when somebody has it.
    """
    descriptor = open_in_place(run_dir / SUBMIT_LOCK)
    try:
        try:
            # On a file system without locks two submissions within the same second are not noticed.
            take_lock(descriptor, fcntl.LOCK_EX)
        except BlockingIOError:
            raise WavslmError(f"{run_dir} is just being submitted by another process.") from None
        refuse_taken(run_dir, say)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def held_alone(run_dir: Path) -> Iterator[None]:
    """Keep others from running and submitting the run while the block removes it.

    Raises: WavslmError when somebody has it.
    """
    holder = living_holder(run_dir)
    if holder is not None:
        raise held(run_dir, holder)
    with ExitStack() as descriptors:
        for name in (SUBMIT_LOCK, LOCK_FILE):
            descriptor = open_in_place(run_dir / name)
            descriptors.callback(os.close, descriptor)
            try:
                take_lock(descriptor, fcntl.LOCK_EX)
            except BlockingIOError:
                raise held(run_dir, None) from None
        yield


def refuse_taken(run_dir: Path, say: Say) -> None:
    """Raises: WavslmError when jobs of a run wait or run, or a process holds its folder.

    Before anything in the folder is changed: its recipe, code and `stop` file are those of who has it.
    """
    if run_dir.is_dir():
        _refuse_queued(run_dir)
        refuse_running(run_dir, say)


def _refuse_queued(run_dir: Path) -> None:
    """Raises: WavslmError when SLURM has jobs of this run, naming them, or cannot tell."""
    records = [record for record in read_jobs(run_dir) if record.launcher == "slurm"]
    try:
        states = job_states(record.job_id for record in records)
    except WavslmError as error:
        raise WavslmError(
            f"{run_dir} was submitted to SLURM before, and jobs of it may wait or run. {error} Try again "
            f"where and when it can; if you know that none is left, delete {run_dir / JOBS_FILE}."
        ) from None
    active = {job_id: job.state for job_id, job in states.items() if job.active}
    if not active:
        return
    jobs = ", ".join(f"job {job_id} ({state})" for job_id, state in sorted(active.items()))
    holder = living_holder(run_dir)
    running = "" if holder is None else f"; {holder} holds its folder"
    raise WavslmError(
        f"{run_dir} was submitted before: {jobs}{running}. See how it does with `wavslm jobs {run_dir}`, or "
        f"stop it first: wavslm stop {run_dir}"
    )


def refuse_running(run_dir: Path, say: Say) -> None:
    """Raises: WavslmError when a process holds the run's folder."""
    path = run_dir / LOCK_FILE

    def refused(path: Path, error: Exception) -> WavslmError:
        # Somebody else's run, which goes on or not.
        holder = living_holder(run_dir)
        return unwritable(path, error) if holder is None else held(run_dir, holder)

    descriptor = open_in_place(path, error=refused)
    try:
        locks_work = take_lock(descriptor, fcntl.LOCK_EX)
    except BlockingIOError:
        raise held(run_dir, read_holder(path)) from None
    finally:
        os.close(descriptor)
    holder = certain_holder(path, say, locks_work=locks_work)
    if holder is not None:
        raise held(run_dir, holder)
