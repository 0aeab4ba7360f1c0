"""Who holds a run's folder, as its lock says, and whether that very process still lives.

A process id alone names nobody: ids come again. A holder is a process and when that started. Clocks of two
machines are never compared to decide anything: a holder elsewhere lives when its heartbeat changes while we
look.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, FiniteFloat

from wavslm_core.machine.json_files import parse_json
from wavslm_core.machine.locks import is_locked
from wavslm_core.machine.progress import this_job
from wavslm_core.machine.regular_files import names_in, read_regular

LOCK_FILE = ".lock"
BEAT_S = 15.0
STALE_S = 180.0
"""A holder on another machine whose heartbeat did not change for so long, while we looked, is dead."""
CLOCKS_APART_S = 900.0
"""How far the clocks of two machines may be apart: what a single look allows for."""
LOOK_EVERY_S = 1.0
_PROC = Path("/proc")
_LARGEST_PID = 2**31 - 1
MOST_BYTES = 4096
"""Of a lock's text."""


@dataclass(frozen=True)
class Holder:
    """Who holds a run."""

    pid: Annotated[int, Field(ge=0, le=_LARGEST_PID)]
    """0: a process that the lock does not name."""
    host: str
    job_id: str | None
    since: FiniteFloat
    """Seconds since 1970 by its own clock, as the next one."""
    heartbeat: FiniteFloat
    started: str | None = None
    """What tells the process from a later one with the same id (`process_start`); None in old locks."""

    @property
    def is_here(self) -> bool:
        return self.host == socket.gethostname()

    @property
    def age_s(self) -> float:
        """How old the heartbeat looks, by the clocks of two machines: to show, not to decide by."""
        return max(0.0, time.time() - self.heartbeat)

    def __str__(self) -> str:
        job = "" if self.job_id is None else f", job {self.job_id}"
        who = f"process {self.pid}" if self.pid else "a process"
        return f"{who} on {self.host}{job} (last heartbeat {self.age_s:.0f} s ago)"


def this_holder() -> Holder:
    """Return this process, as it writes itself into a lock."""
    now, pid = time.time(), os.getpid()
    return Holder(pid, socket.gethostname(), this_job(), now, now, process_start(pid))


def read_holder(path: Path) -> Holder | None:
    """Return who holds the lock at a path, or last held it and died; None for what names no process."""
    try:
        return parse_holder(read_regular(path, most_bytes=MOST_BYTES))
    except OSError:
        return None


def parse_holder(text: bytes) -> Holder | None:
    """Return whom the text of a lock names; None when it is damaged or its id is not that of one process."""
    try:
        holder = parse_json(text, Holder)
    except ValueError:
        return None
    # To kill(), 0 and negative ids are whole groups of processes.
    return holder if holder.pid else None


def living_holder(
    run_dir: Path,
    *,
    jobs_active: Callable[[str], bool | None] = lambda job: None,
    names: Iterable[str] | None = None,
) -> Holder | None:
    """Return a process that has a run or a part of it, as far as one look tells; it does not wait.

    `jobs_active`: whether a job of SLURM waits or runs, None if that is not known. `names`: of what is in
    the run's folder, if that was read before.
    """
    names = names_in(run_dir) if names is None else names
    for name in (LOCK_FILE, *sorted(name for name in names if name.startswith(f"{LOCK_FILE}-"))):
        path = run_dir / name
        holder = read_holder(path)
        locked = is_locked(path)
        if locked:
            now = time.time()
            return holder or Holder(0, socket.gethostname(), None, now, now)
        if holder is None:
            continue
        active = None if holder.job_id is None else jobs_active(holder.job_id)
        if active is not None and not holder.is_here:
            alive = active
        elif holder.is_here:
            alive = locked is None and runs_here(holder) is not False
        else:
            alive = _unchanged_s(path, holder) <= STALE_S and holder.age_s <= CLOCKS_APART_S
        if alive:
            return holder
    return None


def certain_holder(path: Path, say: Callable[[str], None], *, locks_work: bool) -> Holder | None:
    """Return who has a lock that no process of this machine has from the kernel; None: nobody.

    A holder elsewhere is watched until its heartbeat changes, or for as long as it may be silent.
    `locks_work`: the kernel would know of a holder on this machine.
    """
    holder = read_holder(path)
    if holder is None or (holder.job_id is not None and holder.job_id == this_job()):
        # Of this very job, before it was started again.
        return None
    if holder.is_here:
        return None if locks_work or runs_here(holder) is False else holder
    patience = 2 * BEAT_S if holder.age_s > CLOCKS_APART_S else STALE_S
    if holder.job_id is not None:
        from wavslm_core.machine.slurm import is_active

        active = is_active(holder.job_id)
        if active:
            return holder
        # It may be a job of another cluster, so it has to be silent as well.
        patience = patience if active is None else 2 * BEAT_S
    if _unchanged_s(path, holder) <= patience:
        say(f"waiting up to {patience:.0f} s for a sign of {holder}")
    while _unchanged_s(path, holder) <= patience:
        time.sleep(min(LOOK_EVERY_S, BEAT_S))
        now = read_holder(path)
        if now != holder:
            return now
    return None


_LOOKS: dict[Path, tuple[Holder, float]] = {}
"""Lock → what it said when this process saw it change last, and when that was (`time.monotonic`)."""


def _unchanged_s(path: Path, holder: Holder) -> float:
    """Return for how long this process has seen a lock unchanged; 0 at the first look."""
    path, now = path.absolute(), time.monotonic()
    known = _LOOKS.get(path)
    if known is None or known[0] != holder:
        _LOOKS[path] = holder, now
        return 0.0
    return now - known[1]


def runs_here(holder: Holder) -> bool | None:
    """Tell whether the very process that wrote a lock runs on this machine; None when that cannot be told."""
    if not holder.is_here or holder.pid <= 0:
        return False
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # Somebody else's, of which this one may see nothing more.
        pass
    if (_PROC / "self/stat").exists():
        state, since_boot = _stat(holder.pid)
        if state == "Z":
            # Dead, though its parent has not looked yet.
            return False
        if since_boot is not None and holder.started is None:
            # Whoever took over the id of an old lock's process started after the lock was taken.
            return None if (booted := _booted()) is None else booted + since_boot <= holder.since + 2.0
    if holder.started is None:
        return None
    start = process_start(holder.pid)
    return None if start is None else start == holder.started


def process_start(pid: int) -> str | None:
    """Return what only this process of this machine has: its start, with the boot that counts it from."""
    if (_PROC / "self/stat").exists():
        _, since_boot = _stat(pid)
        with suppress(OSError):
            boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
            return None if since_boot is None else f"{boot} {since_boot:.2f}"
        return None
    # Other systems have no /proc; their ps tells the second.
    with suppress(OSError, subprocess.SubprocessError):
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, env=environment)
        return done.stdout.strip() or None
    return None


def send_signal(holder: Holder, number: signal.Signals) -> bool:
    """Signal the very process that took a lock; False, and nobody is signalled, if that is not certain."""
    if not holder.is_here or holder.pid <= 0:
        return False
    with suppress(OSError):
        if not hasattr(os, "pidfd_open"):
            if runs_here(holder):
                os.kill(holder.pid, number)
                return True
            return False
        # Opened before it is looked at, so that no other process can have its id when it is signalled.
        descriptor = os.pidfd_open(holder.pid)
        try:
            if runs_here(holder):
                signal.pidfd_send_signal(descriptor, number)
                return True
        finally:
            os.close(descriptor)
    return False


def _stat(pid: int) -> tuple[str, float | None]:
    """Return a process's state, and when it started in seconds since the machine did; None if not shown."""
    try:
        cells = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return cells[0], int(cells[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return "", None


def _booted() -> float | None:
    """Return when this machine started, in seconds since 1970."""
    with suppress(OSError, ValueError, StopIteration):
        lines = (_PROC / "stat").read_text().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("btime ")))
    return None
