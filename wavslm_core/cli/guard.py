"""From exceptions to exit codes: what a user can mend is one line and 2, a stop is 130, a bug is 1."""

from __future__ import annotations

import atexit
import errno
import gc
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wavslm_core.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_MENDABLE, WavslmError, summary
from wavslm_core.machine.files import refusal
from wavslm_core.machine.terminal import echo, prepare_output

if TYPE_CHECKING:
    from wavslm_core.parts.plugins import Plugin

TRACEBACK = "--traceback"
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG)
"""What the system says of files that belong to others, are links, or cannot be."""
FRAME = re.compile(r'^ *File "(?P<file>.+)", line (?P<line>\d+)', re.MULTILINE)
CORE = "wavslm_core"
SHOW = f"run again with {TRACEBACK} to see where."


def guarded(command: Callable[[list[str]], object]) -> int:
    """Run a command with the program's arguments and return its exit code.

    `--traceback` may stand anywhere among them.
    """
    prepare_output()
    _let_imports_lie()
    arguments = sys.argv[1:]
    show_traceback = TRACEBACK in arguments
    try:
        command([argument for argument in arguments if argument != TRACEBACK])
    except SystemExit as leaving:
        if _came_from_ctrl_c(leaving):
            return _interrupted()
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; Python must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if show_traceback:
            # A job that ran elsewhere brings its own traceback along (`JobCrashed.details`).
            _say(getattr(error, "details", "") or "".join(traceback.format_exception(error)))
        return _explain(error, show_traceback)
    return 0


def _let_imports_lie() -> None:
    """Keep Python from looking again and again, and once more at the end, for what may go.

    Almost all that there is are torch's modules, and they stay: it takes a second of every command.
    """
    gc.set_threshold(10_000)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)


def _interrupted() -> int:
    _say("interrupted; every file that was written is whole and kept")
    return EXIT_INTERRUPTED


def _came_from_ctrl_c(leaving: SystemExit) -> bool:
    """Tell whether typer made this exit of a KeyboardInterrupt; how it does so differs between versions."""
    cause: BaseException | None = leaving
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def _explain(error: Exception, shown: bool) -> int:
    """Print one line for each thing that is wrong and return the exit code."""
    if isinstance(error, WavslmError):
        for line in str(error).rstrip("\n").split("\n"):
            _say(f"error: {line}")
        return EXIT_MENDABLE
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = f" while writing {error.filename}" if error.filename else ""
        _say(f"error: the disk is full{place}. What was saved before is kept; free some space and run again")
        return EXIT_MENDABLE
    if isinstance(error, OSError) and error.errno in _REFUSED and error.filename:
        path = Path(os.fsdecode(error.filename))
        _say(f"error: {path} cannot be opened: {refusal(path, error)}")
        return EXIT_MENDABLE
    # A job that ran elsewhere names the exception in its message already.
    known = " ".join(str(error).split()) if hasattr(error, "details") else summary(error)
    what = known.removesuffix(".")
    if isinstance(error, MemoryError) or "OutOfMemoryError" in what:
        _say(f"error: out of memory: {what}. Use smaller batches, shorter recordings or a smaller model")
        return EXIT_MENDABLE
    culprit = _culprit(error)
    if culprit is not None:
        shows = "" if shown else f"; {TRACEBACK} shows all"
        _say(f"error: raised in {culprit}: {what}; report it to its authors{shows}")
        return EXIT_BUG
    # A job that was killed has no traceback to show.
    hint = "" if shown or getattr(error, "details", None) == "" else f" This looks like a bug; {SHOW}"
    _say(f"error: {what}.{hint}")
    return EXIT_BUG


def _culprit(error: Exception) -> object | None:
    # Imported when something broke only: a verb of ours needs no plugins for its help.
    from wavslm_core.parts import plugins

    try:
        return find_culprit(error, plugins.load().plugins)
    except Exception:
        # Whatever keeps plugins from loading, such as WAVSLM_STRICT_PLUGINS=1, is the error to show already.
        return None


def _say(text: str) -> None:
    echo(text.rstrip("\n"), err=True)


@dataclass(frozen=True)
class Culprit:
    """A line of a plugin."""

    plugin: Plugin
    place: str
    """`package/module.py:31`."""

    def __str__(self) -> str:
        return f"{self.plugin.distribution} {self.plugin.version} ({self.place})"


def find_culprit(error: BaseException, plugins: Sequence[Plugin]) -> Culprit | None:
    """Return the innermost line of a plugin's own package in an exception's traceback, if there is one.

    An exception that brings along the traceback of another process as text (`JobCrashed.details`) is told
    by that. The exceptions that caused this one come after it.
    """
    packages = [(package, plugin) for plugin in plugins if (package := _package(plugin)) is not None]
    for file, line in _frames(error):
        path = Path(file)
        for package, plugin in packages:
            if path == package or package in path.parents:
                return Culprit(plugin, f"{path.relative_to(package.parent).as_posix()}:{line}")
    return None


def _package(plugin: Plugin) -> Path | None:
    """Return the folder of the package that a plugin's module is in, or the file of a single module."""
    names = plugin.value.partition(":")[0].split(".")
    if names[0] == CORE:
        return None
    for depth in range(1, len(names) + 1):
        # Namespace packages, which distributions may share, have no file.
        file = getattr(sys.modules.get(".".join(names[:depth])), "__file__", None)
        if file is not None:
            path = Path(file)
            return path.parent if path.stem == "__init__" else path
    return None


def _frames(error: BaseException) -> Iterator[tuple[str, int]]:
    """Yield (file, line) from the innermost frame outwards, then those of the cause."""
    details = getattr(error, "details", "")
    if details:
        yield from ((found["file"], int(found["line"])) for found in reversed(list(FRAME.finditer(details))))
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        for frame in reversed(traceback.extract_tb(cause.__traceback__)):
            yield frame.filename, frame.lineno or 0
        cause = cause.__cause__ or cause.__context__
