"""Follows the jobs of a run from outside: their logs, states and progress, until the last one ends."""

import time
from pathlib import Path

from wavslm_core.errors import JobCrashed
from wavslm_core.launch.launchers import Outcome
from wavslm_core.machine.slurm import JobState, count_states
from wavslm_core.machine.terminal import Say
from wavslm_core.run.failure import GrowingLog, error_line, first_error, follow_logs, to_exception
from wavslm_core.run.progress import newest_progress, progress_line
from wavslm_core.run.records import STAGES_FILE, JobRecord, StageRecord
from wavslm_core.run.state import RunStatus, last_chain, read_statuses

LOG_EVERY_S = 0.5
ASK_SLURM_EVERY_S = 3.0
"""Every follower asks the one controller that a cluster has."""
PROGRESS_EVERY_S = 10.0
"""After this long without a line in the logs, progress is said instead."""
UNKNOWN_S = 60.0
"""A job that SLURM does not know this long after it was submitted will not appear any more."""


def follow(run_dir: Path, say: Say) -> Outcome:
    """Show what the last submitted jobs of a run write until all have ended, and return how.

    Ctrl-C only leaves: the outcome is `submitted` then.
    Raises: WavslmError, OSError or JobCrashed with the first error of the first job that failed.
    """
    follower = _Follower(run_dir, say)
    try:
        status = follower.until_the_end()
    except KeyboardInterrupt:
        say(f"the jobs go on; look again with `wavslm jobs {run_dir}`, end them with `wavslm stop {run_dir}`")
        return Outcome("submitted")
    return _outcome(status)


class _Follower:
    def __init__(self, run_dir: Path, say: Say) -> None:
        self.run_dir = run_dir
        self.say = say
        self.chain = last_chain(self._status().records)
        labelled = any(record.array is not None for record in self.chain)
        self.logs = [
            (f"[{task}] " if labelled else "", GrowingLog(run_dir / log))
            for record in self.chain
            for task, log in zip(record.task_ids, record.logs, strict=True)
        ]
        self.said: dict[str, str] = {}
        self.began = self.last_line = time.monotonic()
        self.asked = -ASK_SLURM_EVERY_S
        self.progress_time = time.time()

    def until_the_end(self) -> RunStatus:
        follow_logs(self.logs, self._say_line, ended=self._has_ended, every_s=LOG_EVERY_S)
        return self.status

    def _status(self) -> RunStatus:
        return read_statuses([self.run_dir])[0]

    def _has_ended(self) -> bool:
        """Say what changed since the last look; return whether no job waits or runs any more."""
        self._say_progress()
        if time.monotonic() - self.asked < ASK_SLURM_EVERY_S:
            return False
        self.status, self.asked = self._status(), time.monotonic()
        self._say_states(self.status)
        jobs = [self.status.jobs.get(task) for record in self.chain for task in record.task_ids]
        if self.status.problem or (None in jobs and self.asked - self.began < UNKNOWN_S):
            return False
        return not any(job is not None and job.active for job in jobs)

    def _say_states(self, status: RunStatus) -> None:
        """Say what changed: one line for each job, or for each number of tasks of an array in a state."""
        if status.problem and self.said.get("") != status.problem:
            self.say(f"{status.problem} Still following the logs")
        self.said[""] = status.problem
        for record in self.chain:
            jobs = status.job_of(record)
            text = (
                ", ".join(dict.fromkeys(_title(job) for job in jobs))
                if record.array is None
                else count_states(jobs)
            )
            if text and self.said.get(record.job_id) != text:
                self.said[record.job_id] = text
                self.say(f"job {record.job_id}: {text}")

    def _say_line(self, line: str) -> None:
        self.say(line)
        self.last_line = time.monotonic()

    def _say_progress(self) -> None:
        if time.monotonic() - self.last_line < PROGRESS_EVERY_S:
            return
        self.last_line = time.monotonic()
        progress = newest_progress(self.run_dir)
        if progress is not None and progress.time > self.progress_time:
            self.progress_time = progress.time
            self.say(progress_line(progress))


def _title(job: JobState) -> str:
    """Return "PENDING (Resources)", "RUNNING on node2, restart 1"."""
    where = f" on {job.nodes}" if job.nodes and not job.waits else ""
    why = f" ({job.reason})" if job.reason else ""
    again = f", restart {job.restarts}" if job.restarts else ""
    return f"{job.state}{where}{why}{again}"


def _outcome(status: RunStatus) -> Outcome:
    """Return how the last chain of a run ended. Raises: see `follow`."""
    stages = StageRecord(status.run_dir / STAGES_FILE)
    for record in last_chain(status.records):
        for task, log in zip(record.task_ids, record.logs, strict=True):
            job = status.jobs.get(task)
            error = first_error(status.run_dir, task)
            if job is not None and job.state == "COMPLETED":
                continue
            if job is None and all(map(stages.finished, record.stages)):
                # Without accounting, SLURM forgets jobs within minutes of their end.
                continue
            if error is not None:
                raise to_exception(error)
            if _interrupted(status, record, job):
                return Outcome("interrupted", status.stage or None)
            path = status.run_dir / log
            how = "is not known to SLURM any more" if job is None else f"ended as {job.ending}"
            line = error_line([path])
            why = f": {line}" if line else ", without saying why (killed?)"
            raise JobCrashed(f"job {task} {how}{why}. Its log is {path}")
    return Outcome("finished")


def _interrupted(status: RunStatus, record: JobRecord, job: JobState | None) -> bool:
    """Tell whether a job without an error was stopped for good rather than broke."""
    if job is not None and job.stopped:
        return True
    entries = StageRecord(status.run_dir / STAGES_FILE).entries
    return any(stage in entries and entries[stage]["status"] == "interrupted" for stage in record.stages)
