"""Locks between processes: the kernel's (flock), which go away with the process that has them.

Some file systems have none; whoever takes one there is told so, or goes on without it.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from wavslm_core.machine.files import open_in_place, replacing_folder, unwritable

try:
    import fcntl
except ImportError:
    # Nothing runs on such a system, but speech can be looked through.
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")
LOGGER = logging.getLogger(__name__)
LOOKED_AT_S = 1.0
"""Who only looks whether a file is locked has its lock for a moment (`is_locked`), and never for so long."""
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


def kept_folder(folder: Path, opened: Callable[[Path], T | None], make: Callable[[Path], None]) -> T:
    """Return what a folder holds; where it is absent or damaged (`opened` gives None) it is made first.

    It is whole or absent, and one process at a time makes it, beside its place. Raises: DataError when that
    cannot be written.
    """
    found = opened(folder)
    if found is None:
        with one_at_a_time(folder.with_name(f".{folder.name}.lock")):
            # Another process may have made it while this one waited.
            if opened(folder) is None:
                with replacing_folder(folder) as beside:
                    make(beside)
            found = opened(folder)
        assert found is not None
    return found


def take_lock(descriptor: int, mode: int) -> bool:
    """Take a file's lock; False where files have none. Raises: BlockingIOError when somebody has it."""
    end = time.monotonic() + LOOKED_AT_S
    while True:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > end or not _is_shared(descriptor):
                raise
            time.sleep(0.02)
        except OSError:
            # A file system without flock: what the file says has to do.
            return False


def _is_shared(descriptor: int) -> bool:
    """Tell whether those who have a file locked share it: who looks at it, or the tasks of a job array."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


def is_locked(path: Path) -> bool | None:
    """Tell whether a process of this machine has a file locked; None where files have no locks.

    The look itself is a shared lock for a moment, which `take_lock` waits for.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False


def _acquire(stream: BinaryIO, lock_file: Path) -> None:
    if fcntl is None:
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
