"""Keeps off standard error what libmpg123 says there of damaged frames, without naming a file.

It cannot be told to be quiet through libsndfile, and it writes to the process's standard error itself. So
that is turned to a temporary file while an MP3 is being decoded, a matter of milliseconds; all that is not
libmpg123's, such as what other threads write, is passed on at once after.

Standard error is one for the whole process, so there are limits. A program that is started meanwhile (by
another thread, through `subprocess`) inherits the temporary file as its standard error for as long as it
runs; give it one of its own with `stderr=`. Forked children turn theirs back. What C code prints before it
ends the process, while anybody decodes, is lost with the file, and what asks whether standard error is a
terminal hears no.
"""

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import IO

_STANDARD_ERROR = 2
_CHATTER = re.compile(
    rb"(?m)(^\n)?(\[[^\]\n]*libmpg123/"
    rb"|Warning: (Xing stream size|Encountered more data after|Big change|Real sample count)"
    rb"|Note: (Illegal Audio-MPEG|Trying to resync|Skipped -?\d+ bytes|Hit end of|missing -?\d+ bytes in bit"
    rb"|Junk at the beginning|Looks like a RIFF|Could be a BMP|Cut frame|broken frame))[^\n]*\n"
)


class _Chatter:
    """Standard error, turned aside while anybody decodes."""

    def __init__(self) -> None:
        self._start()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._restart)

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._real = -1
        self._aside: IO[bytes] | None = None
        self._told = 0
        self._none = False

    def _restart(self) -> None:
        """In a child, no other thread is left that would turn it back, and the file is the parent's."""
        if self._real >= 0:
            os.dup2(self._real, _STANDARD_ERROR)
        self._start()

    @contextmanager
    def aside(self) -> Iterator[None]:
        with self._lock:
            turned = self._inside > 0 or self._turn()
            self._inside += turned
        try:
            yield
        finally:
            if turned:
                with self._lock:
                    self._inside -= 1
                    if not self._inside:
                        os.dup2(self._real, _STANDARD_ERROR)
                    self._pass_on()
                    if not self._inside:
                        os.close(self._real)
                        self._real = -1

    def _turn(self) -> bool:
        """Turn standard error aside; False where there is none, or no room."""
        if sys.__stderr__ is None or self._none:
            return False
        try:
            self._real = os.dup(_STANDARD_ERROR)
        except OSError:
            # Closed. Its number will be given to another file, which must be left alone.
            self._none = True
            return False
        try:
            if self._aside is None:
                self._aside = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (open as long as the process)
            os.dup2(self._aside.fileno(), _STANDARD_ERROR)
        except OSError:
            os.close(self._real)
            self._real = -1
            return False
        return True

    def _pass_on(self) -> None:
        assert self._aside is not None
        length = os.fstat(self._aside.fileno()).st_size
        if length > self._told:
            said = os.pread(self._aside.fileno(), length - self._told, self._told)
            self._told += len(said)
            with suppress(OSError):
                if rest := _CHATTER.sub(b"", said):
                    os.write(self._real, rest)
        if not self._inside:
            self._aside.seek(0)
            self._aside.truncate()
            self._told = 0


_chatter = _Chatter()


def without_chatter() -> AbstractContextManager[None]:
    """Return a context in which what libmpg123 writes to standard error is lost; see above for its limits."""
    return _chatter.aside()
