"""Reading files that others may have made: regular ones only, and no more than is sensible.

A named pipe would keep the reader waiting for ever, and a device may give bytes without end.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

MOST_BYTES = 64 << 20
"""Of what is read as a whole, unless its reader says otherwise."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading. Raises: OSError, also when it is a pipe, a device or a folder."""
    # Without waiting for somebody who writes to a pipe; for files it means nothing.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def names_in(folder: Path) -> frozenset[str]:
    """Return the names of what is in a folder; none where that cannot be looked at."""
    try:
        return frozenset(entry.name for entry in os.scandir(folder))
    except OSError:
        return frozenset()


def size_of_regular(path: Path) -> int:
    """Return a file's size in bytes. Raises: OSError as `open_regular`."""
    with open_regular(path) as file:
        return os.fstat(file.fileno()).st_size


def read_regular(path: Path, *, most_bytes: int = MOST_BYTES) -> bytes:
    """Return what a file holds. Raises: OSError as `open_regular`, and for more than `most_bytes`."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        # What /proc holds has no size before it is read.
        content = b"" if size > most_bytes else file.read(max(size, 1 << 20))
    if max(size, len(content)) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {_spelt(most_bytes)}", str(path))
    return content


def size_below(folder: Path) -> int:
    """Return the bytes of all files of a folder and its subfolders."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def read_text(path: Path, *, most_bytes: int = MOST_BYTES) -> str:
    """Return a file's text. Raises: OSError as `read_regular`; UnicodeDecodeError when it is not UTF-8."""
    return read_regular(path, most_bytes=most_bytes).decode("utf-8")


def read_log(path: Path) -> str:
    """Return a text for people to read; what is not UTF-8 in it is replaced. Raises: OSError."""
    return read_regular(path).decode("utf-8", "replace")


def _spelt(size_bytes: int) -> str:
    return f"{size_bytes >> 20} MiB" if size_bytes >= 1 << 20 else f"{size_bytes >> 10} KiB"
