"""Files and folders that are either whole or absent: written beside their place, flushed to disk, renamed.

What a killed process leaves beside is recognised by its name, and cleared away by the next that writes into
the same folder. Files that have to be written where they stand, such as locks and logs, are opened with
`open_in_place`.
"""

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import shutil
import socket
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from wavslm_core.errors import DataError, WavslmError
from wavslm_core.machine.processes import process_runs

_NEW, _OLD = ".writing-", ".replaced-"
_LEFTOVER = re.compile(
    r"\.(writing|replaced)-((?P<machine>[0-9a-f]{6})-(?P<pid>[0-9a-f]+)-)?[0-9a-f]{8}(-|$)"
)
_SHORT_NAME_BYTES = 128
"""Any file system has room for that."""
IN_FLIGHT_S = 600.0
"""What was written to more recently may be that of a living process on another machine."""

Unwritable = Callable[[Path, Exception], WavslmError]
"""Makes the error for a path that could not be written of what went wrong."""


def unwritable(path: Path, error: Exception) -> DataError:
    """Return the error for a file that could not be written, with what to do about it."""
    return DataError(f"cannot write {path}: {refusal(path, error)}; what stood there before is unchanged")


def refusal(path: Path, error: Exception) -> str:
    """Return why the system refused to open a path, and what to do about it."""
    reason = getattr(error, "strerror", None) or str(error)
    code = getattr(error, "errno", None)
    if isinstance(error, FileExistsError | NotADirectoryError):
        reason = f"{error.filename or path.parent} is a file, not a folder"
    if code == errno.ELOOP:
        return f"{path.name} is a link, and nothing is written through links. Remove it"
    if code in (errno.EINVAL, errno.ENXIO) and os.path.lexists(path) and not path.is_file():
        return f"{path.name} is no regular file. Remove it"
    if code == errno.EISDIR and path.is_dir():
        return f"{path.name} is a folder, not a file. Move it away"
    if code == errno.ENAMETOOLONG:
        return f"{reason} ({len(os.fsencode(path.name))} bytes). Shorten it"
    if code in (errno.EACCES, errno.EPERM):
        return f"{reason}{_whose(path)}. Choose another folder, or have its permissions mended"
    return f"{reason}. Free some space or choose a folder that can be written"


def _whose(path: Path) -> str:
    """Return in words whose a path is, or else the folder that it is or would be in, unless the user's."""
    with contextlib.suppress(ImportError, OSError, KeyError):
        import pwd

        for place in [place for place in (path, *path.absolute().parents) if os.path.lexists(place)][:2]:
            owner = place.lstat().st_uid
            if owner != os.geteuid():
                return f", {place} belongs to {pwd.getpwuid(owner).pw_name}"
    return ""


@contextlib.contextmanager
def replacing(path: Path, *, error: Unwritable = unwritable, durable: bool = True) -> Iterator[Path]:
    """Yield an empty file beside `path` to write to; it takes the place of `path` when the block succeeds.

    Its name ends like that of `path`, so that libraries which look at suffixes see the right one, and is not
    longer unless that is short. The umask says who may read it. Whatever stood at `path` stays as it was
    when the block fails. Without `durable` nothing is flushed to disk, and a power cut may lose both.
    Raises: what `error` makes of the system's errors, by default DataError, when the disk is full or not
    writable.
    """
    beside = _beside(path)
    try:
        _ready(path.parent)
        # Made here and now, so that nothing that somebody else put there is written to.
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        os.close(descriptor)
        yield beside
        _open_up(beside, mode)
        if durable:
            _flush_to_disk(beside)
        beside.replace(path)
        if durable:
            _flush_to_disk(path.parent)
    except OSError as problem:
        raise error(path, problem) from problem
    finally:
        # Whatever hinders this has been raised already.
        with contextlib.suppress(OSError):
            beside.unlink()


@contextlib.contextmanager
def replacing_folder(folder: Path, *, error: Unwritable = unwritable) -> Iterator[Path]:
    """Yield a new folder beside `folder` to fill; it takes the place of `folder` when the block succeeds.

    As `replacing`, but two renames take what was there away and put the new one in place: a process killed
    between them leaves `folder` absent until `remove_leftovers` puts the old one back.
    """
    beside = _beside(folder)
    try:
        _ready(folder.parent)
        beside.mkdir()
        mode = stat.S_IMODE(beside.stat().st_mode) & 0o666
        yield beside
        for path in beside.rglob("*"):
            _open_up(path, mode)
            _flush_to_disk(path)
        _flush_to_disk(beside)
        _swap(beside, folder)
        _flush_to_disk(folder.parent)
    except OSError as problem:
        raise error(folder, problem) from problem
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _ready(folder: Path) -> None:
    """Make a folder, or clear it of what processes left that were killed while they wrote there."""
    folder.mkdir(parents=True, exist_ok=True)
    _clear_once(folder.absolute())


@functools.lru_cache(maxsize=4096)
def _clear_once(folder: Path) -> None:
    remove_leftovers(folder, deep=False, others_write="everything")


def _swap(new: Path, folder: Path) -> None:
    """Put `new` where `folder` is; if that fails, what was there is put back."""
    if not os.path.lexists(folder):
        new.rename(folder)
        return
    # Inside a folder of that name it keeps its own, however long that is.
    container = folder.with_name(f"{_OLD}{_tag()}")
    container.mkdir()
    old = container / folder.name
    try:
        folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            old.rename(folder)
            raise
    except OSError:
        with contextlib.suppress(OSError):
            container.rmdir()
        raise
    shutil.rmtree(container, ignore_errors=True)


def _open_up(path: Path, mode: int) -> None:
    """Let those read a file who may by the umask: libraries with temporary files of their own do not.

    Links, hard ones too, are left as they are: what they lead to is somebody's already.
    """
    status = path.lstat()
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_mode & mode != mode:
        path.chmod(stat.S_IMODE(status.st_mode) | mode)


def write_text(path: Path, text: str) -> None:
    """Write a text atomically. Raises: DataError."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document atomically. Raises: DataError."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def open_in_place(path: Path, flags: int = os.O_RDWR, *, error: Unwritable = unwritable) -> int:
    """Return a descriptor of a file that is written where it stands, made if it is not there.

    Never through a link, and never of a pipe or device: in a folder that others can write to it might be
    their way to a file of the user's. Raises: what `error` makes of the system's errors.
    """
    safely = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags | os.O_CREAT | safely, 0o666)
    except OSError as problem:
        raise error(path, problem) from problem
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise error(path, OSError(errno.EINVAL, "it is no regular file"))
    return descriptor


def remove_leftovers(
    folder: Path, *, deep: bool = True, others_write: Literal["nothing", "files", "everything"] = "nothing"
) -> None:
    """Clear away what killed processes left half-done in `folder` and, with `deep`, below it.

    Of what others may be writing there now, that stays whose process lives, or was written to of late if
    that cannot be told from here.
    """
    found = folder.rglob(".*") if deep else folder.glob(".*")
    for path in [path for path in found if _LEFTOVER.match(path.name)]:
        in_use = others_write == "everything" or (others_write == "files" and not _is_folder(path))
        # What cannot be removed is the business of who can.
        with contextlib.suppress(OSError):
            if not in_use or _is_abandoned(path):
                _put_back(path)
                remove(path)


def _put_back(path: Path) -> None:
    """Put back what a leftover holds of something that was to be replaced and now is absent."""
    if path.name.startswith(_OLD) and _is_folder(path):
        for old in path.iterdir():
            place = path.with_name(old.name)
            if not os.path.lexists(place):
                old.rename(place)


def _is_abandoned(path: Path) -> bool:
    written_by = _LEFTOVER.match(path.name)
    if written_by is not None and written_by["machine"] == _machine():
        return not process_runs(int(written_by["pid"], 16))
    inside = path.rglob("*") if _is_folder(path) else ()
    ages = (time.time() - place.lstat().st_mtime for place in (path, *inside))
    return min(ages) > IN_FLIGHT_S


def _is_folder(path: Path) -> bool:
    """Return whether a path is a folder itself: what a link leads to may be somebody's home."""
    return path.is_dir() and not path.is_symlink()


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there; of a link only the link."""
    if _is_folder(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """Return an unused path in the same folder that tells who writes there."""
    head, tail = f"{_NEW}{_tag()}-", path.name
    most = max(len(os.fsencode(tail)), _SHORT_NAME_BYTES)
    while len(os.fsencode(head + tail)) > most:
        tail = tail[1:]
    return path.with_name(head + tail)


def _tag() -> str:
    """Return what tells this process, and that nobody can guess."""
    return f"{_machine()}-{os.getpid():x}-{uuid.uuid4().hex[:8]}"


@functools.cache
def _machine() -> str:
    """Return six digits that tell apart where process numbers mean different processes."""
    # Containers have processes of their own, though they may have their machine's name.
    numbering = ""
    with contextlib.suppress(OSError):
        numbering = str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(f"{socket.gethostname()} {numbering}".encode()).hexdigest()[:6]


def _flush_to_disk(path: Path) -> None:
    """Flush a file or, where the system allows it, a folder."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
