"""One process at a time per run folder.

The lock is the kernel's (flock): it goes away with its process, however that ended, so a stale lock cannot
exist. The file's content only tells who holds it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from wavslm_core.errors import WavslmError


class RunLock:
    """Context that holds a run folder's lock. Raises: WavslmError naming the process that has it."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / ".lock"
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = self._holder()
            os.close(descriptor)
            raise WavslmError(
                f"{self.path.parent} is in use by process {holder.get('pid', '?')} on "
                f"{holder.get('host', 'this machine')}. Wait until it ends, or stop it first."
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def _holder(self) -> dict[str, Any]:
        try:
            holder = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return holder if isinstance(holder, dict) else {}
