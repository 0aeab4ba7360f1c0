"""Files and folders that are either whole or absent: written beside their place, flushed to disk, renamed.

What a killed process leaves beside is recognised by its name; `remove_leftovers` clears it away.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from wavslm_core.errors import DataError, WavslmError

_NEW, _OLD = ".writing-", ".replaced-"
_TAG_LENGTH = 8

Unwritable = Callable[[Path, Exception], WavslmError]
"""Makes the error for a path that could not be written of what went wrong."""


def unwritable(path: Path, error: Exception) -> DataError:
    """Return the error for a file that could not be written, with what to do about it."""
    reason = getattr(error, "strerror", None) or str(error)
    if isinstance(error, FileExistsError | NotADirectoryError):
        reason = f"{error.filename or path.parent} is a file, not a folder"
    return DataError(
        f"cannot write {path}: {reason}. Free some space or choose a folder that can be "
        "written; what stood there before is unchanged"
    )


@contextlib.contextmanager
def replacing(path: Path, *, error: Unwritable = unwritable) -> Iterator[Path]:
    """Yield a path beside `path` to write a file to; it takes the place of `path` when the block succeeds.

    The name ends like `path`, so that libraries which look at suffixes see the right one. Whatever stood at
    `path` stays as it was when the block fails. Raises: what `error` makes of the system's errors, by
    default DataError, when the disk is full or not writable.
    """
    beside = _named(_NEW, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        _flush_to_disk(beside)
        beside.replace(path)
        _flush_to_disk(path.parent)
    except OSError as problem:
        raise error(path, problem) from problem
    finally:
        # A parent that is a file is the error being raised already.
        with contextlib.suppress(NotADirectoryError):
            beside.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(folder: Path, *, error: Unwritable = unwritable) -> Iterator[Path]:
    """Yield a new folder beside `folder` to fill; it takes the place of `folder` when the block succeeds.

    As `replacing`, but two renames take what was there away and put the new one in place: a process killed
    between them leaves `folder` absent until `remove_leftovers` puts the old one back.
    """
    beside = _named(_NEW, folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside.mkdir()
        yield beside
        for path in beside.rglob("*"):
            _flush_to_disk(path)
        _flush_to_disk(beside)
        _swap(beside, folder)
        _flush_to_disk(folder.parent)
    except OSError as problem:
        raise error(folder, problem) from problem
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _swap(new: Path, folder: Path) -> None:
    """Put `new` where `folder` is; if that fails, what was there is put back."""
    if not folder.exists():
        new.rename(folder)
        return
    old = _named(_OLD, folder)
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document atomically. Raises: DataError."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def remove_leftovers(folder: Path, *, files_older_than_s: float | None = None) -> None:
    """Clear away what killed processes left half-done below `folder`; no other may be writing there now.

    `files_older_than_s`: others may be writing files, so younger ones are left alone.
    """
    for path in list(folder.rglob(f"{_NEW}*")):
        if files_older_than_s is None or path.is_dir() or _age_s(path) > files_older_than_s:
            remove(path)
    for path in list(folder.rglob(f"{_OLD}*")):
        place = path.with_name(path.name[len(_OLD) + _TAG_LENGTH + 1 :])
        if place.exists():
            remove(path)
        else:
            path.rename(place)


def _age_s(path: Path) -> float:
    """Return how long ago a file was written to; 0 for one that is in its place by now."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _named(prefix: str, path: Path) -> Path:
    return path.with_name(f"{prefix}{uuid.uuid4().hex[:_TAG_LENGTH]}-{path.name}")


def _flush_to_disk(path: Path) -> None:
    """Flush a file or, where the system allows it, a folder."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
