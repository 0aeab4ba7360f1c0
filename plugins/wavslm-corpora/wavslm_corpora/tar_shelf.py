"""Tars as files on this machine: those that are, and copies of those that are elsewhere."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wavslm_core.plugin import DataError, did_you_mean, one_at_a_time, replacing, summary
from wavslm_corpora.download import download
from wavslm_corpora.extras import optional

_NEVER = {"pipe", "__default__"}
_COMPRESSED = (".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")


def expanded(patterns: Sequence[str], *, split: str) -> list[str]:
    """Return the tars that patterns stand for. Raises: DataError for what cannot work, PluginError."""
    shards = optional("webdataset.shardlists", extra="webdataset", corpus="webdataset")
    found: list[str] = []
    for pattern in patterns:
        for place in shards.expand_urls(pattern):
            _check(place, split)
            if _scheme(place):
                found.append(place)
                continue
            files = _files(Path(place).expanduser())
            if not files:
                raise DataError(f"data.{split}: no file is {place}; check the path")
            found.extend(files)
    return found


def _files(pattern: Path) -> list[str]:
    """Return the files that a path with `*` and `?` stands for."""
    root = Path(pattern.anchor)
    return sorted(map(str, root.glob(str(pattern.relative_to(root)))))


def elsewhere(place: str) -> bool:
    """Return whether a tar must be fetched before it is read."""
    return bool(_scheme(place))


def _scheme(place: str) -> str:
    scheme = urlsplit(place).scheme
    # One letter is a Windows drive.
    return scheme if len(scheme) > 1 else ""


def _check(place: str, split: str) -> None:
    """Raise DataError for a place that no tar can be read from."""
    scheme = _scheme(place)
    if place.lower().endswith(_COMPRESSED):
        raise DataError(
            f"data.{split}: {place} is compressed, and compressed tars have no random access. Unpack it with "
            "gunzip or zstd -d, which leaves the tar; FLAC inside is compressed already"
        )
    if scheme == "pipe":
        raise DataError(
            f"data.{split}: {place} would run a command, which recipes may not. Name what it reads as a path "
            "or an https:// URL"
        )
    if scheme:
        allowed = sorted(set(_schemes()) - _NEVER)
        if scheme not in allowed:
            hint = did_you_mean(scheme, allowed)
            if scheme == "s3":
                hint = " For S3 give the bucket's https:// URLs, or mount it."
            raise DataError(f"data.{split}: {place}: '{scheme}' is not among {', '.join(allowed)}.{hint}")


def _schemes() -> dict[str, Any]:
    schemes: dict[str, Any] = optional(
        "webdataset.gopen", extra="webdataset", corpus="webdataset"
    ).gopen_schemes
    return schemes


class TarShelf:
    """Copies of tars that are elsewhere, fetched when they are first needed."""

    def __init__(self, folder: Path, *, keep_bytes: float | None) -> None:
        self._folder = folder
        self._keep_bytes = keep_bytes

    def local(self, place: str) -> Path:
        """Return the file of a tar, fetching it first. Raises: DataError."""
        if not _scheme(place):
            return Path(place)
        digest = hashlib.sha256(place.encode()).hexdigest()[:12]
        copy = self._folder / f"{digest}-{place.rpartition('/')[2]}"
        if not copy.exists():
            # Where room is bounded, tars come one after the other: each must see what the others hold.
            which = copy.name if self._keep_bytes is None else "shelf"
            with one_at_a_time(self._folder / f".{which}.lock"):
                if not copy.exists():
                    self._make_room()
                    _fetch(place, copy)
        if self._keep_bytes is not None:
            # The time of last use decides which copy goes first. It may be gone again already.
            with contextlib.suppress(FileNotFoundError):
                os.utime(copy)
        return copy

    def _make_room(self) -> None:
        if self._keep_bytes is None:
            return
        copies = sorted(self._folder.glob("[!.]*.tar"), key=lambda path: path.stat().st_mtime)
        held = sum(path.stat().st_size for path in copies)
        largest = max((path.stat().st_size for path in copies), default=0)
        for path in copies:
            # Shards are of one size, as a rule: the next will need what the largest does.
            if held + largest <= self._keep_bytes:
                break
            held -= path.stat().st_size
            path.unlink(missing_ok=True)


def _fetch(place: str, copy: Path) -> None:
    instead = "Check the URL, or copy the tars to this machine and name their paths"
    if _scheme(place) in ("http", "https"):
        download(place, copy, checksum=None, instead=instead)
        return
    gopen = optional("webdataset.gopen", extra="webdataset", corpus="webdataset").gopen

    def failed(_: Path, error: Exception) -> DataError:
        return DataError(f"{place} cannot be fetched to {copy}: {summary(error)}. {instead}")

    try:
        with replacing(copy, error=failed) as beside, beside.open("wb") as target, gopen(place) as stream:
            shutil.copyfileobj(stream, target, 1 << 20)
            if not target.tell():
                raise DataError(f"{place} cannot be fetched: it is empty. {instead}")
    except DataError:
        raise
    except Exception as error:
        raise failed(copy, error) from error
