"""One job at a time per run folder.

On one machine the lock is the kernel's (flock): it goes away with its process, however that ended. Between
machines that share a file system flock may mean nothing, so the file also says who holds it, and a thread
renews the heartbeat in it. Who finds a holder on another machine asks SLURM whether that job is alive, and
watches the heartbeat before believing that it is not: it may be a job of another cluster. Without an answer,
a holder whose heartbeat does not change for a few minutes is taken for dead. Who was wrongly taken for dead
notices at the next beat, and stops.

The tasks of a job array hold the run together and their own share each.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType

from wavslm_core.errors import WavslmError
from wavslm_core.machine.files import open_in_place
from wavslm_core.machine.locks import take_lock
from wavslm_core.machine.processes import WHOLE, Share
from wavslm_core.run import lock_holder
from wavslm_core.run.lock_holder import (
    LOCK_FILE,
    Holder,
    certain_holder,
    parse_holder,
    read_holder,
    this_holder,
)

_RECORD_BYTES = 512


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
        before = read_holder(path)
        try:
            locks_work = take_lock(descriptor, mode)
        except BlockingIOError:
            raise held(self.run_dir, before) from None
        if mode == fcntl.LOCK_EX:
            holder = certain_holder(path, self.say, locks_work=locks_work)
            if holder is not None:
                raise held(self.run_dir, holder)
            if before is not None:
                self.say(f"{self.run_dir.name} was held by {before}, which is gone: taking over")
            self._holder = this_holder()
            self._write(descriptor, self._holder)

    def _write(self, descriptor: int, holder: Holder) -> None:
        # One write of a fixed length, so that whoever reads meanwhile sees the old or the new one.
        os.pwrite(descriptor, json.dumps(asdict(holder)).encode().ljust(_RECORD_BYTES), 0)

    def _beat(self) -> None:
        assert self._holder is not None
        while not self._end.wait(lock_holder.BEAT_S):
            # A full disk or a file server that is away for a while: the next beat may pass.
            with suppress(OSError):
                if self._is_lost():
                    return
                self._write(self._descriptors[-1], replace(self._holder, heartbeat=time.time()))

    def _is_lost(self) -> bool:
        """Look whether the file names another holder by now, and keep whom."""
        there = parse_holder(os.pread(self._descriptors[-1], _RECORD_BYTES, 0))
        if there is None or self._holder is None:
            return False
        if replace(there, heartbeat=self._holder.heartbeat) != self._holder:
            self._lost_to = there
        return self._lost_to is not None

    def _release(self) -> None:
        # A file server that is away at the end must not hide how the run ended: the lock of a process that
        # is gone keeps nobody out.
        if self._beating is not None:
            with suppress(OSError):
                if not self._is_lost():
                    os.ftruncate(self._descriptors[-1], 0)
        for descriptor in self._descriptors:
            with suppress(OSError):
                os.close(descriptor)
        self._descriptors.clear()


def held(run_dir: Path, holder: Holder | None) -> WavslmError:
    """Return the error for a run that somebody else has."""
    shares = (read_holder(path) for path in sorted(run_dir.glob(f"{LOCK_FILE}-*")))
    holder = holder or next((share for share in shares if share is not None), None)
    who = "another process" if holder is None else str(holder)
    return WavslmError(
        f"{run_dir} is in use by {who}. Wait until it ends, or stop it first: wavslm stop {run_dir}"
    )
