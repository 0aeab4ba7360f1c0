"""What SLURM says of jobs: squeue for those that wait, run or just ended, sacct for those before."""

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from wavslm_core.errors import EXIT_INTERRUPTED, WavslmError

ASK_S = 30.0
"""A busy controller may take its time."""
ENDED = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
)
"""States of jobs that will never run again; any other is one of a job that waits or runs."""
_SQUEUE = (
    "JobArrayID:64",
    "State:32",
    "Reason:64",
    "NodeList:256",
    "RestartCnt:16",
    "EndTime:32",
    "exit_code:16",
)
_SACCT = "JobID,State,ExitCode,NodeList,End"


@dataclass(frozen=True)
class JobState:
    """One job, or one task of a job array."""

    job_id: str
    """Such as `12`, or `12_3` for a task."""
    state: str
    """SLURM's long name, such as `RUNNING`."""
    reason: str = ""
    """Why it waits or how it failed, such as `Resources`; empty when SLURM gives none."""
    nodes: str = ""
    restarts: int | None = None
    """How often it was queued again; None for jobs of long ago."""
    ended: str = ""
    """Local time."""
    exit_code: str = ""
    """Such as `2:0`, code and signal; empty until it ended."""

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state not in ENDED

    @property
    def waits(self) -> bool:
        return self.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")

    @property
    def stopped(self) -> bool:
        """Whether somebody ended it, rather than that it broke."""
        return self.state == "CANCELLED" or self.exit_code.startswith(f"{EXIT_INTERRUPTED}:")

    @property
    def ending(self) -> str:
        """Its state and why, in words."""
        why = self.reason or self.exit_code
        return f"{self.state} ({why})" if why else self.state


def job_states(job_ids: Iterable[str]) -> dict[str, JobState]:
    """Return what SLURM knows of jobs, by id; a job array that is asked for by its number gives its tasks.

    Jobs that are older than SLURM's memory are left out. Raises: WavslmError when SLURM does not answer.
    """
    asked = set(job_ids)
    wanted = {_root(job_id) for job_id in asked}
    if not wanted:
        return {}
    states = _squeue(wanted, f"--user={os.getuid()}")
    forgotten = _unknown(asked, states)
    if forgotten:
        command = (
            "sacct",
            "-X",
            "--noheader",
            "--parsable2",
            f"--format={_SACCT}",
            "-j",
            ",".join(forgotten),
        )
        try:
            shown = _ask(*command)
        except WavslmError:
            # Many clusters keep no accounts.
            shown = ""
        states = {state.job_id: state for state in read_sacct(shown)} | states
    if _unknown(asked, states):
        # Somebody else's, which without accounts only the whole queue shows.
        states = _squeue(wanted) | states
    states |= _of_whole_arrays(asked, states)
    return {job_id: state for job_id, state in states.items() if {job_id, _root(job_id)} & asked}


def _squeue(wanted: set[str], *options: str) -> dict[str, JobState]:
    """Return what squeue shows of jobs, given by their numbers, and of the tasks of arrays."""
    # Not `--jobs`: squeue fails as a whole when it has forgotten one of them.
    fields = ",".join(f"{field}|" for field in _SQUEUE)
    shown = _ask("squeue", "--noheader", "--array", "--states=all", f"--Format={fields}", *options)
    return {state.job_id: state for state in read_squeue(shown) if _root(state.job_id) in wanted}


def _of_whole_arrays(asked: set[str], states: dict[str, JobState]) -> dict[str, JobState]:
    """Return the states of tasks that were cancelled before they began.

    squeue shows all that such an array had left as one job with the array's own number. Accounts, where a
    cluster keeps them, hear of it some time later: until then they say that such tasks wait.
    """
    found = {}
    for job_id in asked:
        known, whole = states.get(job_id), states.get(_root(job_id))
        if whole is not None and not whole.active and (known is None or known.waits):
            found[job_id] = replace(whole, job_id=job_id)
    return found


def _unknown(asked: set[str], states: dict[str, JobState]) -> set[str]:
    """Return the numbers of those jobs of which no state is known."""
    return {_root(job_id) for job_id in asked - {*states, *map(_root, states)}}


def count_states(jobs: Iterable[JobState]) -> str:
    """Return how many jobs are in which state, in words: `2 RUNNING, 1 PENDING`."""
    counts = Counter(job.state for job in jobs)
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def is_active(job_id: str) -> bool | None:
    """Tell whether a job, or any task of a job array, waits or runs; None when SLURM cannot be asked."""
    try:
        return any(state.active for state in job_states((job_id,)).values())
    except WavslmError:
        return None


def cancel(job_ids: Iterable[str]) -> None:
    """Cancel jobs or tasks of job arrays. Raises: WavslmError."""
    _ask("scancel", *job_ids)


def read_squeue(shown: str) -> list[JobState]:
    """Return what a table of squeue says."""
    states = []
    for line in shown.splitlines():
        cells = [cell.strip() for cell in f"{line}||||||".split("|")]
        job_id, state, reason, nodes, restarts, ended, status, *_ = cells
        if not job_id:
            continue
        # Of a job that runs, squeue gives the time when it has to end and a code of 0.
        over = state in ENDED
        states.append(
            JobState(
                job_id,
                state,
                "" if reason == "None" else reason,
                nodes,
                int(restarts) if restarts.isdigit() else None,
                ended if over and ended[:1].isdigit() else "",
                # As the system's wait() gives it.
                f"{int(status) >> 8}:{int(status) & 127}" if over and status.isdigit() else "",
            )
        )
    return states


def read_sacct(shown: str) -> list[JobState]:
    """Return what a table of sacct says; a range of tasks that never started gives one of them each."""
    states = []
    for line in shown.splitlines():
        job_id, state, exit_code, nodes, ended, *_ = f"{line}||||".split("|")
        if not job_id:
            continue
        # "CANCELLED by 1000"
        state = (state.split() or [""])[0]
        over = state in ENDED
        states += [
            JobState(
                one,
                state,
                nodes="" if nodes == "None assigned" else nodes,
                ended=ended if over and ended[:1].isdigit() else "",
                exit_code=exit_code if over else "",
            )
            for one in _tasks(job_id)
        ]
    return states


def _tasks(job_id: str) -> list[str]:
    """Return the ids that `12_[0-2,5%4]` stands for."""
    root, bracket, inside = job_id.partition("_[")
    if not bracket:
        return [job_id]
    numbers: list[int] = []
    for part in inside.rstrip("]").partition("%")[0].split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            numbers += range(int(first), int(last if last.isdigit() else first) + 1)
    return [f"{root}_{number}" for number in numbers]


def _root(job_id: str) -> str:
    return job_id.partition("_")[0]


def _ask(*command: str) -> str:
    """Run a command of SLURM and return what it prints. Raises: WavslmError."""
    if shutil.which(command[0]) is None:
        raise WavslmError(
            f"SLURM cannot be asked: there is no {command[0]} on this machine. Run this where sbatch works."
        )
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S)
    except subprocess.TimeoutExpired:
        raise WavslmError(f"SLURM cannot be asked: {command[0]} was silent for {ASK_S:.0f} s.") from None
    except OSError as error:
        raise WavslmError(f"SLURM cannot be asked: {command[0]}: {error.strerror}.") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
        raise WavslmError(f"SLURM cannot be asked: {said}")
    return done.stdout
