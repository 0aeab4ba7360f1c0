"""Trees of files, in order of their paths, for corpora and for whoever names a folder on the command line."""

import errno
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from wavslm_core.data.audio_files import AUDIO_SUFFIXES, READABLE_FORMATS, printable
from wavslm_core.data.manifest import Recording
from wavslm_core.errors import DataError


@dataclass(frozen=True)
class TreeFile:
    """A file below a folder."""

    path: Path
    name: str
    """Its path below the folder, with forward slashes, as the system has it."""
    entry: os.DirEntry[str]
    problem: str = ""
    """Why it is no file that can be opened, to follow its name."""


def files_below(root: Path, suffixes: Collection[str]) -> Iterator[TreeFile]:
    """Yield every file below `root` with one of the suffixes (`.wav`, in any case), sorted by printable path.

    Links are followed, to folders too, unless they lead back to a folder that they are in. Hidden files and
    folders are left out. Links to nothing and folders that may not be opened come with a problem.
    Raises: OSError when `root` cannot be read, or something below it for another reason.
    """
    with os.scandir(root) as entries:
        listed = list(entries)
    yield from _sorted(listed, "", suffixes, frozenset([_identity(root)]))


def _sorted(
    entries: list[os.DirEntry[str]], prefix: str, suffixes: Collection[str], above: frozenset[tuple[int, int]]
) -> Iterator[TreeFile]:
    """Yield what is in and below a folder; `above` identifies it and those that it is in."""
    # A folder sorts as the start of the paths below it, so that all paths come out in order.
    named = [
        (printable(f"{entry.name}{'/' if _is_folder(entry) else ''}"), entry)
        for entry in entries
        if not entry.name.startswith(".")
    ]
    for shown, entry in sorted(named, key=lambda pair: (pair[0], pair[1].name)):
        name, suffix = f"{prefix}{entry.name}", Path(entry.name).suffix.lower()
        if shown.endswith("/"):
            yield from _inside(entry, f"{name}/", suffixes, above)
            continue
        problem = _problem(entry)
        # What a link without a suffix should lead to may be a folder.
        if suffix in suffixes or (problem and not suffix):
            yield TreeFile(Path(entry.path), name, entry, problem)


def _inside(
    entry: os.DirEntry[str], prefix: str, suffixes: Collection[str], above: frozenset[tuple[int, int]]
) -> Iterator[TreeFile]:
    try:
        identity = _identity(Path(entry.path))
        if identity in above:
            return
        with os.scandir(entry.path) as entries:
            listed = list(entries)
    except PermissionError as error:
        yield TreeFile(Path(entry.path), prefix, entry, f"cannot be opened: {error.strerror}")
        return
    except FileNotFoundError:
        # It has just been taken away.
        return
    yield from _sorted(listed, prefix, suffixes, above | {identity})


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _problem(entry: os.DirEntry[str]) -> str:
    """Return what is wrong with an entry that is no folder, if it is a link."""
    if not entry.is_symlink():
        return ""
    try:
        entry.stat()
    except OSError as error:
        known = {errno.ENOENT: "is a link to nothing", errno.ELOOP: "is a link to itself"}
        what = known.get(error.errno or 0, f"is a link that cannot be followed ({error.strerror})")
        return f"{what}; mend or remove it"
    return ""


def walk(root: Path, *, inside: str = "", key: str = "data.path") -> Iterator[Recording]:
    """Yield every audio file below `root`, sorted by path, as `files_below` does.

    `inside`, such as "train/", is what their names start with. `key` is the recipe's key to name.
    Raises: DataError when `root` is not a folder that can be read.
    """
    if not root.is_dir():
        found = "is a file" if root.exists() else "does not exist"
        raise DataError(f"corpus folder {root} {found}; set `{key}` to a folder of {READABLE_FORMATS} files")
    last = ""
    try:
        for file in files_below(root, AUDIO_SUFFIXES):
            recording = _recording(file, inside)
            # Two names that are not UTF-8 may look alike: one of them is listed.
            if recording is not None and recording.name > last:
                last = recording.name
                yield recording
    except OSError as error:
        raise DataError(f"corpus folder {root} cannot be read: {error}; check its permissions") from error


def _recording(file: TreeFile, inside: str) -> Recording | None:
    """Return a file as it is listed; None for one that has just been taken away."""
    name = f"{inside}{file.name}"
    shown = printable(name)
    if file.problem:
        return Recording(shown, 0, 0, reason=f"{shown} {file.problem}")
    try:
        status = file.entry.stat()
    except FileNotFoundError:
        return None
    except PermissionError as error:
        return Recording(shown, 0, 0, reason=f"{shown} cannot be opened: {error.strerror}")
    # Manifests, token stores and reports are UTF-8 and could not name it.
    reason = "" if shown == name else f"the name of {shown} is not UTF-8; rename it"
    return Recording(shown, status.st_size, status.st_mtime_ns, reason=reason)
