"""Downloads of large files: resumed where they stopped, checked, and in place only when whole."""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from wavslm_core.plugin import DataError, open_in_place, summary, unwritable

BLOCK_BYTES = 1 << 22


def download(url: str, file: Path, *, checksum: str | None, instead: str) -> None:
    """Download `url` to `file`, unless it is there; what arrived of an earlier try is not fetched again.

    `checksum` is `sha256:…` or `md5:…`; without one the length that the server announces is checked.
    `instead` tells what to do when the host cannot be reached. Raises: DataError.
    """
    if file.exists():
        return
    partial = file.with_name(f"{file.name}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(open_in_place(partial, os.O_WRONLY | os.O_APPEND), "ab") as stream:
            _fetch(url, stream, partial, instead)
        if checksum is not None:
            _check(partial, url, checksum)
        partial.replace(file)
    except OSError as error:
        raise unwritable(file, error) from error


def _fetch(url: str, stream: BinaryIO, partial: Path, instead: str) -> None:
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get

    before = partial.stat().st_size
    try:
        http_get(url, stream, resume_size=before, displayed_filename=partial.stem)
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        stream.flush()
        arrived = partial.stat().st_size
        if status == 416 and error.response.headers.get("Content-Range") == f"bytes */{arrived}":
            # Nothing is left to fetch: it was stopped between the last byte and the check.
            return
        if status == 416 and before:
            # What is there belongs to another content than the server has now.
            stream.truncate(0)
            _fetch(url, stream, partial, instead)
            return
        why = f"the server answers {status}"
        raise _stopped(url, why, stream, partial, instead) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
            raise
        raise _stopped(url, summary(error), stream, partial, instead) from error


def _stopped(url: str, why: str, stream: BinaryIO, partial: Path, instead: str) -> DataError:
    stream.flush()
    arrived = partial.stat().st_size
    kept = f"; {arrived} bytes have arrived and are kept: run again to go on" if arrived else ""
    return DataError(f"{url} cannot be downloaded: {why}{kept}. {instead}")


def _check(partial: Path, url: str, checksum: str) -> None:
    kind, _, expected = checksum.partition(":")
    digest = hashlib.new(kind)
    with partial.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
    if digest.hexdigest() != expected.lower():
        partial.unlink()
        raise DataError(
            f"{url} is not the file that is expected: its {kind} is {digest.hexdigest()}, not {expected}. "
            "What arrived was deleted: run again; if it happens again, check the URL or set `data.checksums`"
        )
