"""Files that are either whole or absent: written beside their place, flushed to disk, then renamed."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wavslm_core.errors import DataError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the place of `path` when the block succeeds.

    The name ends like `path`, so that libraries which look at suffixes see the right one. Whatever stood at
    `path` stays as it was when the block fails. Raises: DataError when the disk is full or not writable.
    """
    beside = path.with_name(f".writing-{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield beside
        _flush_to_disk(beside)
        beside.replace(path)
        _flush_to_disk(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document atomically. Raises: DataError."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def unwritable(path: Path, error: OSError) -> DataError:
    """Return the error for a file that could not be written, with what to do about it."""
    reason = error.strerror or str(error)
    if isinstance(error, FileExistsError | NotADirectoryError):
        reason = f"{error.filename or path.parent} is a file, not a folder"
    return DataError(
        f"cannot write {path}: {reason}. Free some space or choose a folder that can be "
        "written; what stood there before is unchanged"
    )


def _flush_to_disk(path: Path) -> None:
    """Flush a file or, where the system allows it, a folder."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
