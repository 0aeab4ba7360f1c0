"""Where the recordings lie inside a tar, so that each is read without what stands before it."""

from __future__ import annotations

import json
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from wavslm_core.data.atomic import replacing
from wavslm_core.data.audio_files import AUDIO_SUFFIXES, AudioBytes, printable
from wavslm_core.data.manifest import Recording
from wavslm_core.errors import AudioError, DataError
from wavslm_corpora.strict_tar import open_tar

_LARGEST_NOTE = 1 << 20
"""Bytes: a `.json` or `.txt` that is larger is no note on one recording."""
_TAR_BLOCK = 512
"""Bytes: members start at multiples of it."""
_PLACE_BITS = 35
"""Of a stamp: members start within 16 TiB. 28 bits of its 63 are left for what they hold."""
_READ_BYTES = 1 << 20


def offset_of(stamp: int) -> int:
    """Return where in its tar a recording with this stamp starts."""
    return (stamp & ((1 << _PLACE_BITS) - 1)) * _TAR_BLOCK


def _stamp(offset: int, checksum: int) -> int:
    """Return what changes when a member moves or holds something else."""
    return offset // _TAR_BLOCK | (checksum & ((1 << (63 - _PLACE_BITS)) - 1)) << _PLACE_BITS


def indexed(
    tar: Callable[[], Path],
    *,
    label: str,
    cache_file: Path,
    stamp: str,
    speaker_field: str,
    text_field: str,
) -> list[Recording]:
    """Return the recordings of a tar in order of names `<label>/<member>`.

    The index is kept in `cache_file` until `stamp` changes; `tar` is only called to make it, for which every
    byte is read. Raises: DataError for what is no whole, uncompressed tar; FileNotFoundError.
    """
    key = json.dumps([2, stamp, label, speaker_field, text_field])
    try:
        first, *lines = cache_file.read_text(encoding="utf-8").splitlines()
        if first == key:
            return [Recording(*json.loads(line)[:3], **json.loads(line)[3]) for line in lines]
    except (OSError, ValueError, TypeError, IndexError):
        pass
    found = sorted(_recordings(tar(), label, speaker_field, text_field), key=lambda item: item.name)
    with replacing(cache_file) as beside, beside.open("w", encoding="utf-8") as stream:
        stream.write(f"{key}\n")
        for item in found:
            notes = {"speaker": item.speaker, "text": item.text, "reason": item.reason}
            stream.write(json.dumps([item.name, item.size_bytes, item.stamp, notes]) + "\n")
    return found


def read_member(tar: Path, name: str, *, stamp: int, size: int) -> AudioBytes:
    """Return a member's bytes.

    Raises: FileNotFoundError when the tar is gone, AudioError when it cannot be read or has changed.
    """
    offset = offset_of(stamp)
    try:
        with tar.open("rb") as stream:
            data = os.pread(stream.fileno(), size, offset)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise AudioError(f"{tar} cannot be read: {error.strerror}") from error
    if len(data) < size:
        raise AudioError(f"{tar} is cut off: {name} ends beyond it; copy it again")
    if _stamp(offset, zlib.crc32(data)) != stamp:
        raise AudioError(
            f"{tar} has changed since it was scanned: {name} is not in its place any more. Open the corpus "
            "again with `data.rescan: true`; if the tar was fetched, empty the cache of the corpus first"
        )
    return AudioBytes(name, data)


def _recordings(tar: Path, label: str, speaker_field: str, text_field: str) -> Iterator[Recording]:
    audio: dict[str, tuple[int, int]] = {}
    speakers: dict[str, str] = {}
    texts: dict[str, str] = {}
    end = tar.stat().st_size
    try:
        with open_tar(tar, "r:") as archive:
            for member in archive:
                if not member.isreg():
                    continue
                if member.offset_data + member.size > end:
                    raise DataError(f"{tar} is cut off inside {printable(member.name)}; copy it again")
                path = PurePosixPath(member.name)
                suffix, stem = path.suffix.lower(), str(path.with_suffix(""))
                if suffix in AUDIO_SUFFIXES:
                    if member.name not in audio:
                        stamp = _stamp(member.offset_data, _checksum(archive, member))
                        audio[member.name] = member.size, stamp
                elif suffix in (".json", ".txt") and member.size <= _LARGEST_NOTE:
                    note = _note(archive, member)
                    if suffix == ".txt":
                        texts[stem] = note.strip()
                    else:
                        _take(_object(note), speaker_field, speakers, stem)
                        _take(_object(note), text_field, texts, stem, setdefault=True)
    except tarfile.TarError as error:
        raise DataError(
            f"{tar} is no plain tar ({error}). Compressed tars have no random access: unpack them with "
            "gunzip or zstd -d, which leaves the tar; FLAC inside is compressed already"
        ) from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"{tar} cannot be read: {error.strerror or error}; check the path") from error
    for name, (size, stamp) in audio.items():
        stem, shown = str(PurePosixPath(name).with_suffix("")), printable(name)
        reason = "" if shown == name else f"the name of {shown} is not UTF-8; rename it"
        yield Recording(
            f"{label}/{shown}",
            size,
            stamp,
            reason=reason,
            speaker=speakers.get(stem),
            text=texts.get(stem),
        )


def _checksum(archive: tarfile.TarFile, member: tarfile.TarInfo) -> int:
    stream = archive.extractfile(member)
    checksum = 0
    while stream is not None and (block := stream.read(_READ_BYTES)):
        checksum = zlib.crc32(block, checksum)
    return checksum


def _note(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    stream = archive.extractfile(member)
    return stream.read().decode("utf-8", "replace") if stream is not None else ""


def _object(note: str) -> dict[str, Any]:
    try:
        document = json.loads(note)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _take(
    note: dict[str, Any], field: str, into: dict[str, str], stem: str, *, setdefault: bool = False
) -> None:
    value = note.get(field)
    if isinstance(value, str | int) and not (setdefault and stem in into):
        into[stem] = str(value)
