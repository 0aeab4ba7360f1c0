"""Makes and updates manifests: what is new is read by a pool of threads, what is known is not read again.

Everything runs in order of names, as streams, so that memory does not grow with the corpus. What was read is
kept in a journal beside the manifest until that is whole: a scan that was interrupted continues where it
stopped, after a few seconds' work at most. Of several processes that open a corpus at once one scans, the
others wait for it.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wavslm_core.data.manifest import FORMAT_VERSION, Manifest, ManifestWriter, Recording
from wavslm_core.machine.files import open_in_place, replacing_folder, unwritable
from wavslm_core.machine.json_files import parse_json
from wavslm_core.machine.locks import one_at_a_time
from wavslm_core.machine.progress import progress_bar

SCAN_THREADS = 8
BLOCK = 256
"""Recordings that are read between two writes to the journal."""
_JOURNAL = "journal-"


def update_manifest(
    folder: Path,
    *,
    key: str,
    present: Callable[[], Iterable[Recording]],
    read: Callable[[Recording], Recording],
    label: str,
    rescan: bool = True,
) -> Manifest:
    """Return the manifest in `folder`, made or brought up to date first.

    `present` lists what is there now, in order of names, with `same` filled in and nothing else; `read` fills
    in the rest of one (in one of several threads). Without `rescan` a manifest that is there is taken as it
    is. What `read` stamps `UNSETTLED` is read again each time. Raises: DataError when `folder` cannot be
    written; what `present` and `read` raise.
    """
    manifest = Manifest.open(folder, key=key)
    if manifest is not None and (not rescan or _up_to_date(manifest, present())):
        return manifest
    with one_at_a_time(folder.with_name(f"{folder.name}.lock")):
        before = manifest
        manifest = Manifest.open(folder, key=key)
        # Another process may have done it while this one waited.
        replaced = manifest is not None and (before is None or before.digest != manifest.digest)
        if manifest is not None and replaced and (not rescan or _up_to_date(manifest, present())):
            return manifest
        journals = _Journals(folder, key)
        known = journals.known(manifest)
        with replacing_folder(folder) as beside:
            writer = ManifestWriter(beside, key=key)
            for recording in _complete(present(), known, read, journals, label):
                writer.append(recording)
            writer.finish()
        journals.remove()
    made = Manifest.open(folder, key=key)
    assert made is not None, "a manifest that was just written opens"
    return made


def _up_to_date(manifest: Manifest, present: Iterable[Recording]) -> bool:
    count = 0
    names, sizes, stamps = manifest.names, manifest.sizes, manifest.stamps
    for index, recording in enumerate(present):
        count = index + 1
        if index >= len(names) or recording.same != (names[index], int(sizes[index]), int(stamps[index])):
            return False
    return count == len(names)


def _complete(
    present: Iterable[Recording],
    known: Iterator[Recording],
    read: Callable[[Recording], Recording],
    journals: _Journals,
    label: str,
) -> Iterator[Recording]:
    """Yield every recording that is there in order, filled in from what is known or read now."""

    def read_all(share: list[Recording]) -> list[Recording]:
        return [read(item) for item in share]

    behind: Recording | None = next(known, None)
    with (
        ThreadPoolExecutor(SCAN_THREADS, thread_name_prefix="scan") as pool,
        progress_bar(f"Scanning {label}", total=None, unit="files") as advance,
    ):
        try:
            for block in _blocks(present):
                found: list[Recording | None] = []
                for recording in block:
                    match = None
                    while behind is not None and behind.name <= recording.name:
                        # Of several readings of one name the right one is that of the same content.
                        match = behind if behind.same == recording.same else match
                        behind = next(known, None)
                    found.append(match)
                unknown = [item for item, match in zip(block, found, strict=True) if match is None]
                fresh = [item for share in pool.map(read_all, _shares(unknown)) for item in share]
                journals.append(fresh)
                readings = iter(fresh)
                for match in found:
                    advance(1)
                    yield match if match is not None else next(readings)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _blocks(items: Iterable[Recording]) -> Iterator[list[Recording]]:
    iterator = iter(items)
    while block := list(itertools.islice(iterator, BLOCK)):
        yield block


def _shares(items: list[Recording]) -> list[list[Recording]]:
    """Divide a block into as many shares as keep all threads busy to its end, each worth handing over."""
    size = max(1, len(items) // (4 * SCAN_THREADS))
    return [items[start : start + size] for start in range(0, len(items), size)]


class _Journals:
    """Files of readings beside a manifest, each in order of names; this process appends to one of its own."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, f"{FORMAT_VERSION} {key}"
        found = sorted(folder.parent.glob(f"{folder.name}.{_JOURNAL}*"))
        self._earlier = [path for path in found if path.is_file()]
        self._own = folder.with_name(f"{folder.name}.{_JOURNAL}{time.time_ns():020d}.jsonl")

    def known(self, manifest: Manifest | None) -> Iterator[Recording]:
        """Return everything that was read before, in order of names."""
        streams: list[Iterator[Recording]] = [self._lines(path) for path in self._earlier]
        if manifest is not None:
            streams.append(iter(manifest))
        return heapq.merge(*streams, key=lambda recording: recording.name)

    def _lines(self, path: Path) -> Iterator[Recording]:
        with path.open(encoding="utf-8", errors="replace") as stream:
            if stream.readline().rstrip("\n") != self._key:
                return
            for line in stream:
                try:
                    yield parse_json(line, Recording)
                except ValueError:
                    # The last line of a process that was killed.
                    return

    def append(self, recordings: list[Recording]) -> None:
        if not recordings:
            return
        try:
            self._own.parent.mkdir(parents=True, exist_ok=True)
            descriptor = open_in_place(self._own, os.O_WRONLY | os.O_APPEND)
            with os.fdopen(descriptor, "a", encoding="utf-8") as stream:
                if not stream.tell():
                    stream.write(f"{self._key}\n")
                for recording in recordings:
                    stream.write(json.dumps(vars(recording), ensure_ascii=False) + "\n")
        except OSError as error:
            raise unwritable(self._own, error) from error

    def remove(self) -> None:
        for path in (*self._earlier, self._own):
            path.unlink(missing_ok=True)
