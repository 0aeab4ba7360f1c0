"""One job at a time per run folder.

On one machine the lock is the kernel's (flock): it goes away with its process, however that ended. Between
machines that share a file system flock may mean nothing, so the file also says who holds it, and a thread
renews the time in it. Who finds a holder on another machine asks SLURM whether that job is alive, and waits
for two missed beats before believing that it is not: it may be a job of another cluster. Without an answer, a
holder that was silent for a few minutes is taken for dead. Who was wrongly taken for dead notices at the next
beat, and stops.

The tasks of a job array hold the run together and their own share each.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType

from wavslm_core.data.atomic import open_in_place
from wavslm_core.errors import WavslmError
from wavslm_core.processes import WHOLE, Share, process_runs
from wavslm_core.pulse import this_job

LOCK_FILE = ".lock"
BEAT_S = 15.0
STALE_S = 180.0
"""A holder that was silent for longer is dead, unless SLURM says otherwise."""
_RECORD_BYTES = 512


@dataclass(frozen=True)
class Holder:
    """Who holds a run."""

    pid: int
    host: str
    job_id: str | None
    since: float
    """Seconds since 1970, as the next one."""
    heartbeat: float

    @property
    def silent_s(self) -> float:
        return max(0.0, time.time() - self.heartbeat)

    def __str__(self) -> str:
        job = "" if self.job_id is None else f", job {self.job_id}"
        return f"process {self.pid} on {self.host}{job} (last heartbeat {self.silent_s:.0f} s ago)"


class RunLock:
    """Context that holds a run folder, or a share of its work. Raises: WavslmError naming who has it."""

    def __init__(
        self, run_dir: Path, *, share: Share = WHOLE, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self.run_dir = run_dir
        self.share = share
        self.say = say
        self._descriptors: list[int] = []
        self._holder: Holder | None = None
        self._beating: threading.Thread | None = None
        self._lost_to: Holder | None = None
        self._end = threading.Event()

    @property
    def lost_to(self) -> Holder | None:
        """Who has taken the run over meanwhile, as far as the last beat saw."""
        return self._lost_to

    def __enter__(self) -> RunLock:
        try:
            if self.share.partial:
                self._take(LOCK_FILE, fcntl.LOCK_SH)
                self._take(f"{LOCK_FILE}-{self.share.index}-of-{self.share.count}", fcntl.LOCK_EX)
            else:
                self._take(LOCK_FILE, fcntl.LOCK_EX)
        except BaseException:
            self._release()
            raise
        self._beating = threading.Thread(target=self._beat, name="lock heartbeat", daemon=True)
        self._beating.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._beating is not None:
            self._beating.join()
        self._release()

    def _take(self, name: str, mode: int) -> None:
        path = self.run_dir / name
        descriptor = open_in_place(path)
        self._descriptors.append(descriptor)
        holder = read_holder(path)
        kernel_knows = True
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            raise held(self.run_dir, holder) from None
        except OSError:
            # A file system without flock: what the file says has to do.
            kernel_knows = False
        if mode == fcntl.LOCK_EX and holder is not None:
            if is_gone(holder):
                holder = self._silent(path, holder)
            if is_alive(holder, kernel_knows=kernel_knows):
                raise held(self.run_dir, holder)
            self.say(f"{self.run_dir.name} was held by {holder}, which is gone: taking over")
        if mode == fcntl.LOCK_EX:
            now = time.time()
            self._holder = Holder(os.getpid(), socket.gethostname(), this_job(), now, now)
            self._write(descriptor, self._holder)

    def _silent(self, path: Path, holder: Holder) -> Holder:
        """Wait until a holder that SLURM does not know misses two beats; return it as it is then."""
        if holder.silent_s <= 2 * BEAT_S:
            self.say(f"waiting for a sign of {holder}, of which SLURM knows nothing")
        while holder.silent_s <= 2 * BEAT_S:
            time.sleep(min(1.0, BEAT_S))
            now = read_holder(path)
            if now is not None and now.heartbeat != holder.heartbeat:
                return now
        return holder

    def _write(self, descriptor: int, holder: Holder) -> None:
        # One write of a fixed length, so that whoever reads meanwhile sees the old or the new one.
        os.pwrite(descriptor, json.dumps(asdict(holder)).encode().ljust(_RECORD_BYTES), 0)

    def _beat(self) -> None:
        assert self._holder is not None
        while not self._end.wait(BEAT_S):
            # A full disk or a file server that is away for a while: the next beat may pass.
            with suppress(OSError):
                if self._is_lost():
                    return
                self._write(self._descriptors[-1], replace(self._holder, heartbeat=time.time()))

    def _is_lost(self) -> bool:
        """Look whether the file names another holder by now, and keep whom."""
        try:
            there = Holder(**json.loads(os.pread(self._descriptors[-1], _RECORD_BYTES, 0)))
        except (ValueError, TypeError):
            return False
        if self._holder is not None and replace(there, heartbeat=self._holder.heartbeat) != self._holder:
            self._lost_to = there
        return self._lost_to is not None

    def _release(self) -> None:
        if self._beating is not None and not self._is_lost():
            os.ftruncate(self._descriptors[-1], 0)
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()


def read_holder(path: Path) -> Holder | None:
    """Return who holds the lock at a path, or last held it and died."""
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def is_alive(holder: Holder, *, kernel_knows: bool = True) -> bool:
    """Tell whether a holder still runs, given that this machine's kernel has no lock of it.

    `kernel_knows`: it would have one if the holder lived on this machine.
    """
    if holder.job_id is not None and holder.job_id == this_job():
        # This very job, before it was restarted.
        return False
    if holder.host == socket.gethostname():
        return not kernel_knows and process_runs(holder.pid)
    if holder.job_id is not None:
        from wavslm_core.launching.slurm_state import is_active

        active = is_active(holder.job_id)
        if active is not None:
            return active or holder.silent_s <= 2 * BEAT_S
    return holder.silent_s <= STALE_S


def is_gone(holder: Holder) -> bool:
    """Tell whether a holder is another job on another machine that, says SLURM, does not run."""
    if holder.job_id in (None, this_job()) or holder.host == socket.gethostname():
        return False
    from wavslm_core.launching.slurm_state import is_active

    return holder.job_id is not None and is_active(holder.job_id) is False


def held(run_dir: Path, holder: Holder | None) -> WavslmError:
    """Return the error for a run that somebody else has."""
    shares = (read_holder(path) for path in sorted(run_dir.glob(f"{LOCK_FILE}-*")))
    holder = holder or next((share for share in shares if share is not None), None)
    who = "another process" if holder is None else str(holder)
    return WavslmError(
        f"{run_dir} is in use by {who}. Wait until it ends, or stop it first: wavslm stop {run_dir}"
    )
