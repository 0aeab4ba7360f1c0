"""Where the recordings lie inside a tar, so that each is read without what stands before it."""

import json
import logging
import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from pydantic import NonNegativeInt

from wavslm_core.plugin import (
    AUDIO_SUFFIXES,
    AudioBytes,
    AudioError,
    DataError,
    Recording,
    parse_json,
    parse_object,
    printable,
    read_regular,
    replacing,
)
from wavslm_corpora.unpack import open_tar

logger = logging.getLogger(__name__)

_LARGEST_NOTE = 1 << 20
"""Bytes: a `.json` or `.txt` that is larger is no note on one recording."""
_TAR_BLOCK = 512
"""Bytes: members start at multiples of it."""
_PLACE_BITS = 35
"""Of a stamp: members start within 16 TiB. 28 bits of its 63 are left for what they hold."""
_READ_BYTES = 1 << 20
_NAMED = 10
"""Members that a warning names."""
_LARGEST_INDEX = 1 << 30
"""Bytes: ten million recordings in one tar."""


class _Line(NamedTuple):
    """What an index holds of a recording."""

    name: str
    size_bytes: NonNegativeInt
    stamp: NonNegativeInt
    notes: dict[Literal["speaker", "text", "reason"], str | None]


def offset_of(stamp: int) -> int:
    """Return where in its tar a recording with this stamp starts."""
    return (stamp & ((1 << _PLACE_BITS) - 1)) * _TAR_BLOCK


def _stamp(offset: int, checksum: int) -> int:
    """Return what changes when a member moves or holds something else."""
    return offset // _TAR_BLOCK | (checksum & ((1 << (63 - _PLACE_BITS)) - 1)) << _PLACE_BITS


def indexed(
    tar: Callable[[], Path], *, label: str, cache_file: Path, stamp: str, speaker_field: str, text_field: str
) -> list[Recording]:
    """Return the recordings of a tar in order of names `<label>/<member>`.

    The index is kept in `cache_file` until `stamp` changes; `tar` is only called to make it, for which every
    byte is read. Raises: DataError for what is no whole, uncompressed tar; FileNotFoundError.
    """
    key = json.dumps([3, stamp, label, speaker_field, text_field])
    try:
        lines = read_regular(cache_file, most_bytes=_LARGEST_INDEX).splitlines()
        if lines[:1] == [key.encode()]:
            return [_indexed(line) for line in lines[1:]]
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        logger.warning(
            "%s cannot be read (%s): all of %s is read to make it again", cache_file, reason, label
        )
    found = sorted(_recordings(tar(), label, speaker_field, text_field), key=lambda item: item.name)
    with replacing(cache_file) as beside, beside.open("w", encoding="utf-8") as stream:
        stream.write(f"{key}\n")
        for item in found:
            notes = {"speaker": item.speaker, "text": item.text, "reason": item.reason}
            stream.write(json.dumps([item.name, item.size_bytes, item.stamp, notes]) + "\n")
    return found


def _indexed(line: bytes) -> Recording:
    """Return the recording that a line of an index stands for. Raises: ValueError."""
    found = parse_json(line, _Line)
    notes = found.notes
    return Recording(
        found.name,
        found.size_bytes,
        found.stamp,
        reason=notes.get("reason") or "",
        speaker=notes.get("speaker"),
        text=notes.get("text"),
    )


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


@dataclass
class _Notes:
    """What the `.json` and `.txt` members of a tar say, by their names without these suffixes."""

    tar: Path
    speaker_field: str
    text_field: str
    speakers: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def add(self, path: PurePosixPath, note: bytes) -> None:
        stem = str(path.with_suffix(""))
        if path.suffix.lower() == ".txt":
            self.texts[stem] = note.decode("utf-8", "replace").strip()
            return
        try:
            document = parse_object(note)
        except ValueError:
            name = printable(str(path))
            logger.warning("%s: %s is no JSON object: what it says of its recording is lost", self.tar, name)
            return
        speaker, text = document.get(self.speaker_field), document.get(self.text_field)
        if isinstance(speaker, str | int):
            self.speakers[stem] = str(speaker)
        if isinstance(text, str | int):
            # A `.txt` goes before it.
            self.texts.setdefault(stem, str(text))

    def of(self, name: str) -> tuple[str | None, str | None]:
        """Return speaker and text of a recording, from the notes of its sample whose names are the likest.

        A sample is what has the same name up to the first point, as the library has it: `u1.json` tells of
        `u1.speech.wav`, unless there is a `u1.speech.json`.
        """
        path = PurePosixPath(name)
        stems = [str(path.with_suffix(""))]
        while "." in (last := PurePosixPath(stems[-1]).name).lstrip("."):
            stems.append(stems[-1].removesuffix(f".{last.rpartition('.')[2]}"))
        self.used.update(stems)
        speakers = (self.speakers[stem] for stem in stems if stem in self.speakers)
        texts = (self.texts[stem] for stem in stems if stem in self.texts)
        return next(speakers, None), next(texts, None)

    def warn_of_unused(self) -> None:
        """Say which notes belong to no recording."""
        unused = sorted((self.speakers.keys() | self.texts.keys()) - self.used)
        if unused:
            listed = ", ".join(map(printable, unused[:_NAMED]))
            logger.warning("%s: %d notes tell of no recording: %s", self.tar, len(unused), listed)


def _recordings(tar: Path, label: str, speaker_field: str, text_field: str) -> Iterator[Recording]:
    audio: list[tuple[str, int, int]] = []
    seen: Counter[str] = Counter()
    notes = _Notes(tar, speaker_field, text_field)
    end = tar.stat().st_size
    try:
        with open_tar(tar, "r:") as archive:
            for member in archive:
                if not member.isreg():
                    continue
                if member.offset_data + member.size > end:
                    raise DataError(f"{tar} is cut off inside {printable(member.name)}; copy it again")
                path = PurePosixPath(member.name)
                suffix = path.suffix.lower()
                note = suffix in (".json", ".txt")
                if not note and suffix not in AUDIO_SUFFIXES:
                    continue
                if note and member.size > _LARGEST_NOTE:
                    shown = printable(member.name)
                    logger.warning(
                        "%s: %s is too large for a note on a recording; it is not read", tar, shown
                    )
                    continue
                seen[member.name] += 1
                if not note:
                    stamp = _stamp(member.offset_data, _checksum(archive, member))
                    audio.append((member.name, member.size, stamp))
                elif seen[member.name] == 1:
                    notes.add(path, _note(archive, member))
    except tarfile.TarError as error:
        raise DataError(
            f"{tar} is no plain tar ({error}). Compressed tars have no random access: unpack them with "
            "gunzip or zstd -d, which leaves the tar; FLAC inside is compressed already"
        ) from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"{tar} cannot be read: {error.strerror or error}; check the path") from error
    twice = [printable(name) for name, count in seen.items() if count > 1]
    if twice:
        logger.warning("%s: of members of one name only the first counts: %s", tar, ", ".join(twice[:_NAMED]))
    listed: Counter[str] = Counter()
    for name, size, stamp in audio:
        shown = printable(name)
        listed[name] += 1
        speaker, text = notes.of(name)
        reason = ""
        if shown != name:
            reason = f"the name of {shown} is not UTF-8, or holds a null character; rename it"
        if listed[name] > 1:
            shown = f"{shown}#{listed[name]}"
            reason = f"{tar} holds {seen[name]} members called {printable(name)}: only the first counts"
            reason += "; rename the others"
        yield Recording(f"{label}/{shown}", size, stamp, reason=reason, speaker=speaker, text=text)
    notes.warn_of_unused()


def _checksum(archive: tarfile.TarFile, member: tarfile.TarInfo) -> int:
    stream = archive.extractfile(member)
    checksum = 0
    while stream is not None and (block := stream.read(_READ_BYTES)):
        checksum = zlib.crc32(block, checksum)
    return checksum


def _note(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    return stream.read() if stream is not None else b""
