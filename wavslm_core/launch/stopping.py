"""Ends a run for good: what waits is cancelled, what runs is asked to save, what does not listen is ended."""

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from wavslm_core.errors import WavslmError
from wavslm_core.machine.slurm import JobState, cancel
from wavslm_core.machine.terminal import Say
from wavslm_core.run.lock_holder import LOCK_FILE, Holder, runs_here, send_signal
from wavslm_core.run.state import RunStatus, read_statuses
from wavslm_core.run.stop import clear_stop, request_stop

POLL_S = 1.0
ENDING_S = 60.0
"""How long SLURM may take to end jobs that it was told to cancel."""

Stopped = Literal["saved", "cancelled", "killed"]
"""`saved`: it ended by itself at a safe point. `cancelled`: nothing of it had started. `killed`: neither."""


def stop_run(run_dir: Path, say: Say, *, patience_s: float) -> Stopped:
    """Stop a run and return how; `patience_s`: how long it may take to save before it is ended anyway.

    Raises: WavslmError when nothing of it runs or waits, SLURM cannot be asked, or it does not end.
    """
    status = _look(run_dir)
    if not status.active and status.holder is None:
        raise WavslmError(f"{run_dir} is not running: its state is {status.state}.")
    # First, so that a job that starts right now stops, too.
    request_stop(run_dir)
    waiting = [job for job in status.active if job.waits]
    if waiting:
        cancel(job.job_id for job in waiting)
        say(f"cancelled, before {'it' if len(waiting) == 1 else 'they'} ran: {_named(waiting)}")
    if len(waiting) == len(status.active) and status.holder is None:
        status = _wait(run_dir, _runs, ENDING_S)
        if not _runs(status):
            clear_stop(run_dir)
            return "cancelled"
        # SLURM did not end them, or one started in between.
    _ask(status, say)
    status = _wait(run_dir, _runs, patience_s)
    if not _runs(status):
        return "saved"
    say(f"it did not stop within {patience_s:.0f} s")
    _end(status, say)
    status = _wait(run_dir, _runs, ENDING_S)
    if _runs(status):
        raise WavslmError(
            f"{run_dir} still runs: {_named(status.active) or status.holder}. {_by_hand(status)}"
        )
    return "killed"


def _look(run_dir: Path) -> RunStatus:
    """Return how the run does. Raises: WavslmError when only SLURM knows and cannot be asked."""
    (status,) = read_statuses([run_dir])
    if status.problem and status.holder is None:
        raise WavslmError(status.problem)
    return status


def _runs(status: RunStatus) -> bool:
    return bool(status.active) or status.holder is not None


def _wait(run_dir: Path, goes_on: Callable[[RunStatus], bool], seconds: float) -> RunStatus:
    """Wait until a run does not go on any more, and return how it does then."""
    end = time.monotonic() + seconds
    while True:
        status = _look(run_dir)
        if not goes_on(status) or time.monotonic() > end:
            return status
        requeued = [job for job in status.active if job.waits]
        if requeued:
            # Its place was taken just now: nothing is lost, and it must not come back.
            cancel(job.job_id for job in requeued)
        time.sleep(POLL_S)


def _ask(status: RunStatus, say: Say) -> None:
    running = [job for job in status.active if not job.waits]
    if running:
        say(f"asked to save and to end: {_named(running)}")
    elif status.holder is not None:
        # One elsewhere, or that is not certainly the one that took the lock, sees the file `stop`.
        send_signal(status.holder, signal.SIGTERM)
        say(f"asked to save and to end: {_title(status.holder)}")


def _end(status: RunStatus, say: Say) -> None:
    """End without asking."""
    if status.active:
        say(f"cancelling {_named(status.active)}")
        cancel(job.job_id for job in status.active)
    elif status.holder is not None and send_signal(status.holder, signal.SIGTERM):
        # The second signal leaves at once; files are written beside and renamed, so none is lost.
        say(f"ending {_title(status.holder)}")


def _named(jobs: Sequence[JobState]) -> str:
    return ", ".join(f"job {job.job_id}" + (f" on {job.nodes}" if job.nodes else "") for job in jobs)


def _title(holder: Holder) -> str:
    return f"process {holder.pid} on {holder.host}" if holder.pid else f"a process on {holder.host}"


def _by_hand(status: RunStatus) -> str:
    if status.active:
        return f"Try `scancel --signal=KILL --full {' '.join(job.job_id for job in status.active)}`."
    assert status.holder is not None
    if not status.holder.is_here:
        return f"End {_title(status.holder)} there: every file that was written is whole."
    if not status.holder.pid or runs_here(status.holder) is not True:
        return (
            "Its lock does not tell which process has it: see who has it open, such as with "
            f"`lsof {status.run_dir / LOCK_FILE}`, and end that."
        )
    return f"Try `kill -9 {status.holder.pid}`: every file that was written is whole."
