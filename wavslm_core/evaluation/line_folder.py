"""Lines of JSON that several processes leave in one folder, each in a file of its own.

A process that is killed loses the line it was writing, and nothing else: the next one writes another file.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

from wavslm_core.errors import DataError
from wavslm_core.machine.files import open_in_place, unwritable
from wavslm_core.machine.json_files import parse_json
from wavslm_core.machine.regular_files import read_regular

Line = TypeVar("Line")
MOST_BYTES = 4 << 30


def read_whole_lines(path: Path, shape: type[Line]) -> Iterator[Line]:
    """Yield the lines of a file that are a `shape`, without what is damaged or cut short.

    Raises: DataError when the file cannot be read.
    """
    try:
        content = read_regular(path, most_bytes=MOST_BYTES)
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Delete it: it is made again") from error
    for text in content.splitlines():
        with suppress(ValueError):
            yield parse_json(text, shape)


class LineFolder(Generic[Line]):
    """A folder of such files. Lines are dataclasses."""

    def __init__(self, folder: Path, shape: type[Line]) -> None:
        self.folder = folder
        self._shape = shape
        self._descriptor: int | None = None

    def read(self) -> Iterator[Line]:
        """Yield every line that is there, of all processes. Raises: DataError."""
        for path in sorted(self.folder.glob("*.jsonl")):
            yield from read_whole_lines(path, self._shape)

    def add(self, lines: Iterable[Line]) -> None:
        """Append lines; they are there when this process is killed next. Raises: DataError."""
        text = "".join(f"{line_text(line)}\n" for line in lines)
        path = self.folder / f"{uuid.uuid4().hex[:12]}.jsonl"
        try:
            if self._descriptor is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._descriptor = open_in_place(path)
            left = memoryview(text.encode())
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            raise unwritable(path, error) from error

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def line_text(line: Any) -> str:
    """Return a dataclass as a line; what is None in it is left out."""
    return json.dumps(_without_none(asdict(line)), ensure_ascii=False, separators=(",", ":"))


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if value is not None
    }
