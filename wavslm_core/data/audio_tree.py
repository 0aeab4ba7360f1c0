"""A tree of audio files as recordings, in order of their paths."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from wavslm_core.data.audio_files import AUDIO_SUFFIXES, printable
from wavslm_core.data.manifest import Recording
from wavslm_core.errors import DataError


def walk(root: Path, *, inside: str = "", key: str = "data.path") -> Iterator[Recording]:
    """Yield every audio file below `root`, sorted by path; hidden files and folders are left out.

    `inside`, such as "train/", is what their names start with. `key` is the recipe's key to name.
    Raises: DataError when `root` is not a folder that can be read.
    """
    if not root.is_dir():
        found = "is a file" if root.exists() else "does not exist"
        raise DataError(
            f"corpus folder {root} {found}; set `{key}` to a folder of WAV, FLAC, OGG or MP3 files"
        )
    try:
        yield from _walk(root, inside)
    except OSError as error:
        raise DataError(f"corpus folder {root} cannot be read: {error}; check its permissions") from error


def _walk(folder: Path, prefix: str) -> Iterator[Recording]:
    with os.scandir(folder) as entries:
        # A folder sorts as the start of the paths below it, so that all paths come out in order.
        named = [
            (f"{printable(f'{prefix}{entry.name}')}{'/' if entry.is_dir() else ''}", entry)
            for entry in entries
            if not entry.name.startswith(".")
        ]
    named.sort(key=lambda pair: (pair[0], pair[1].name))
    for place, (path, entry) in enumerate(named):
        if path.endswith("/"):
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")
        elif place and path == named[place - 1][0]:
            # Two names that are not UTF-8 and look alike: one of them is listed.
            continue
        elif Path(entry.name).suffix.lower() in AUDIO_SUFFIXES:
            # Manifests, token stores and reports are UTF-8 and could not name it.
            reason = "" if path == f"{prefix}{entry.name}" else f"the name of {path} is not UTF-8; rename it"
            try:
                status = entry.stat()
            except FileNotFoundError:
                yield Recording(path, 0, 0, reason=f"{path} is a link to nothing; mend or remove it")
                continue
            yield Recording(path, status.st_size, status.st_mtime_ns, reason=reason)
