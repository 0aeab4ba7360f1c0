"""Whose code an exception came out of: the innermost frame in the package of an installed plugin."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wavslm_core.parts.plugins import Plugin

FRAME = re.compile(r'^ *File "(?P<file>.+)", line (?P<line>\d+)', re.MULTILINE)
CORE = "wavslm_core"


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
