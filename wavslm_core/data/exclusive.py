"""A lock between processes, for work that one of them should do while the others wait."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from wavslm_core.data.atomic import unwritable


@contextlib.contextmanager
def one_at_a_time(lock_file: Path) -> Iterator[None]:
    """Hold a lock while the block runs; a process that dies lets go of it.

    On a file system without locks the block runs all the same: what it does must be right done twice. Raises:
    DataError when the lock's folder cannot be written.
    """
    # Imported here: corpora are listed and checked without it.
    from filelock import FileLock

    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(lock_file, error) from error
    lock = FileLock(lock_file)
    with contextlib.suppress(OSError, NotImplementedError):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
