"""What a tree of audio files holds, remembered between runs.

Opening a corpus needs the length of every file. Headers are read and samples tried once, by a pool of
threads, and kept in a cache file with each file's size and modification time; later only new and changed
files are read again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from wavslm_core.data.atomic import replacing
from wavslm_core.data.audio_files import AUDIO_SUFFIXES, printable, proven_info
from wavslm_core.data.progress import progress_bar
from wavslm_core.errors import AudioError, DataError

SCAN_THREADS = 8


@dataclass(frozen=True)
class AudioFile:
    """One file of a tree: usable when `samples` is positive, otherwise left out for `reason`."""

    path: str
    """Relative to the root, with forward slashes."""
    size_bytes: int
    modified_ns: int
    samples: int = 0
    sample_rate_hz: int = 0
    reason: str = ""

    @property
    def is_same_as(self) -> tuple[str, int, int]:
        """What must be equal for an earlier reading of the header to be still right."""
        return self.path, self.size_bytes, self.modified_ns


def scan(root: Path, *, cache_dir: Path) -> list[AudioFile]:
    """Return every audio file below `root`, sorted by path; hidden files and folders are left out.

    Raises: DataError when `root` is not a folder that can be read.
    """
    if not root.is_dir():
        found = "is a file" if root.exists() else "does not exist"
        raise DataError(
            f"corpus folder {root} {found}; set `data.path` to a folder of WAV, FLAC, OGG or MP3 files"
        )
    cache_file = cache_dir / f"folder-{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12]}.jsonl"
    known = {file.is_same_as: file for file in _read(cache_file)}
    try:
        present = sorted(_walk(root, ""), key=lambda file: file.path)
    except OSError as error:
        raise DataError(f"corpus folder {root} cannot be read: {error}; check its permissions") from error
    unknown = [file for file in present if file.is_same_as not in known]
    if unknown:
        known |= {file.is_same_as: file for file in _read_headers(root, unknown)}
    files = [known[file.is_same_as] for file in present]
    if unknown or len(files) != len(known):
        _write(cache_file, files)
    return files


def _walk(folder: Path, prefix: str) -> Iterator[AudioFile]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            raw = f"{prefix}{entry.name}"
            if entry.is_dir():
                yield from _walk(Path(entry.path), f"{raw}/")
            elif Path(entry.name).suffix.lower() in AUDIO_SUFFIXES:
                status = entry.stat()
                path = printable(raw)
                # Manifests, token stores and reports are UTF-8 and could not name it.
                reason = "" if path == raw else f"the name of {path} is not UTF-8; rename it"
                yield AudioFile(path, status.st_size, status.st_mtime_ns, reason=reason)


def _read_headers(root: Path, files: list[AudioFile]) -> list[AudioFile]:
    def read(file: AudioFile) -> AudioFile:
        if file.reason:
            return file
        try:
            info = proven_info(root / file.path)
        except AudioError as error:
            return AudioFile(file.path, file.size_bytes, file.modified_ns, reason=str(error))
        return AudioFile(file.path, file.size_bytes, file.modified_ns, info.samples, info.sample_rate_hz)

    read_files: list[AudioFile] = []
    with (
        ThreadPoolExecutor(SCAN_THREADS) as pool,
        progress_bar(f"Scanning {root.name}", total=len(files), unit="files") as advance,
    ):
        for file in pool.map(read, files):
            read_files.append(file)
            advance(1)
    return read_files


def _read(cache_file: Path) -> list[AudioFile]:
    """Return what the cache file holds; one that is damaged or of another version counts as absent."""
    try:
        lines = cache_file.read_text(encoding="utf-8").splitlines()
        return [AudioFile(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError):
        return []


def _write(cache_file: Path, files: list[AudioFile]) -> None:
    with replacing(cache_file) as beside, beside.open("w", encoding="utf-8") as stream:
        for file in files:
            stream.write(json.dumps(asdict(file), ensure_ascii=False) + "\n")
