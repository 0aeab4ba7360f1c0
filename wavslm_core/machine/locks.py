"""A lock between processes, for work that one of them should do while the others wait."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from wavslm_core.machine.files import open_in_place, unwritable

LOGGER = logging.getLogger(__name__)
PATIENCE_SECONDS = 2.0
"""After which somebody who waits for another process is told so."""


@contextlib.contextmanager
def one_at_a_time(lock_file: Path) -> Iterator[None]:
    """Hold a lock while the block runs; a process that dies lets go of it.

    On a file system without locks the block runs all the same: what it does must be right done twice. Raises:
    DataError when the lock's folder cannot be written.
    """
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(lock_file, error) from error
    # Closing lets go of the lock.
    with os.fdopen(open_in_place(lock_file), "r+b") as stream:
        _acquire(stream, lock_file)
        yield


def _acquire(stream: BinaryIO, lock_file: Path) -> None:
    try:
        import fcntl
    except ImportError:
        return
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until:
                break
            time.sleep(0.02)
        except OSError:
            return
    LOGGER.warning("waiting for another process that is making %s", lock_file.stem.lstrip("."))
    fcntl.flock(stream, fcntl.LOCK_EX)
