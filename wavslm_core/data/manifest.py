"""What a corpus holds, as columns on disk: recordings with their lengths, and the utterances in them.

    manifest.json              version, key, counts, digest; written last
    names.txt …                the recordings' names, sorted
    sizes, stamps, samples, rates, channels .npy      a number for each recording
    only.npy                   the channel that is read of it; -1: the mean of all
    plain.npy                  1: read as its header says; 0: compressed, or behind a header that is mended
    mended.npy                 1: libsndfile would read other samples of the file as it is
    rejected.npy, reasons.txt  recordings that are left out, and why
    recording, start, length .npy                     each utterance: which recording, and which samples of it
    speakers.txt, texts.txt    where they are known and do not follow from the name

Everything is memory-mapped: opening a manifest of ten million utterances costs what opening one of ten does.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from wavslm_core.data.audio_files import AudioInfo
from wavslm_core.machine.json_files import parse_json
from wavslm_core.machine.npy_files import map_column
from wavslm_core.machine.regular_files import read_regular, size_of_regular

FORMAT_VERSION = 4
MANIFEST_FILE = "manifest.json"
_NUMBERS = {"sizes": "<i8", "stamps": "<i8", "samples": "<i8"} | {
    name: "<i4" for name in ("rates", "channels", "only", "plain", "mended")
}
_UTTERANCES = {"recording": "<u4", "start": "<i8", "length": "<i8"}

UNSETTLED = -1
"""Stamp of a recording that the system could not read: nothing that is listed has it, so the next scan tries
again, and what was made without the recording is out of date once it is read."""

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Recording:
    """One file, or member of an archive: usable when `samples` is positive, otherwise left out for
    `reason`."""

    name: str
    """Unique within its corpus, with forward slashes."""
    size_bytes: int
    stamp: int
    """Changes when the content does: for files the modification time in ns. `UNSETTLED`: read it again."""
    samples: int = 0
    sample_rate_hz: int = 0
    channels: int = 0
    channel: int | None = None
    """The one that is read where all together cancel each other out."""
    plain: bool = True
    """As `AudioInfo.plain`."""
    mended: bool = False
    """As `AudioInfo.mended`."""
    reason: str = ""
    speaker: str | None = None
    text: str | None = None
    pieces: tuple[tuple[int, int], ...] | None = None
    """(start, samples) of the utterances; None: one, the whole."""

    def __post_init__(self) -> None:
        # A transcript in UTF-16 is full of null characters, which no reader of what is written takes.
        for name in ("speaker", "text", "reason"):
            value = getattr(self, name)
            if value and "\0" in value:
                object.__setattr__(self, name, value.replace("\0", ""))

    @property
    def same(self) -> tuple[str, int, int]:
        """What must be equal for an earlier reading to be still right."""
        return self.name, self.size_bytes, self.stamp


@dataclass(frozen=True)
class _Document:
    """What `manifest.json` holds."""

    format: int
    key: str
    digest: str
    recordings: int
    utterances: int
    speakers: bool
    texts: bool


class Manifest:
    """An opened manifest."""

    def __init__(self, folder: Path, document: _Document) -> None:
        self.folder = folder
        self.digest: str = document.digest
        """Changes with any recording, its content as far as its stamp tells, and with how it is cut."""
        self.names = Strings.open(folder, "names")
        self.sizes, self.stamps = self._column("sizes"), self._column("stamps")
        self.samples, self.rates = self._column("samples"), self._column("rates")
        self.channels, self.only = self._column("channels"), self._column("only")
        self.plain, self.mended = self._column("plain"), self._column("mended")
        self.rejected = self._column("rejected")
        """Indices of recordings that are left out, rising."""
        self.reasons = Strings.open(folder, "reasons")
        self.recording = self._column("recording")
        self.start, self.length = self._column("start"), self._column("length")
        self.speakers = Strings.open(folder, "speakers") if document.speakers else None
        self.texts = Strings.open(folder, "texts") if document.texts else None
        counts = {len(self.names), *(len(self._column(name)) for name in _NUMBERS)}
        utterances = {len(self._column(name)) for name in _UTTERANCES}
        if counts != {document.recordings} or utterances != {document.utterances}:
            raise ValueError("its columns differ in length")

    @classmethod
    def open(cls, folder: Path, *, key: str) -> Manifest | None:
        """Open a manifest; None when it is absent, damaged, of another version or made for another key."""
        try:
            document = parse_json(read_regular(folder / MANIFEST_FILE), _Document)
            if document.format != FORMAT_VERSION or document.key != key:
                return None
            return cls(folder, document)
        except (OSError, ValueError):
            return None

    def _column(self, name: str) -> npt.NDArray[Any]:
        kinds = _NUMBERS | _UTTERANCES | {"rejected": "<i8"}
        return map_column(self.folder / f"{name}.npy", kinds[name])

    def __len__(self) -> int:
        return len(self.names)

    def _channel(self, index: int) -> int | None:
        only = int(self.only[index])
        return only if only >= 0 else None

    def audio(self, index: int) -> AudioInfo:
        """Return what the scan found out about a recording's audio."""
        return AudioInfo(
            int(self.samples[index]),
            int(self.rates[index]),
            int(self.channels[index]),
            channel=self._channel(index),
            plain=bool(self.plain[index]),
            mended=bool(self.mended[index]),
        )

    def range_below(self, prefix: str) -> range:
        """Return the recordings whose names start with `prefix`; names are sorted, so they are neighbours."""
        start = self._first_not_below(prefix)
        return range(start, self._first_not_below(f"{prefix}\U0010ffff", low=start))

    def _first_not_below(self, name: str, *, low: int = 0) -> int:
        high = len(self.names)
        while low < high:
            middle = (low + high) // 2
            if self.names[middle] < name:
                low = middle + 1
            else:
                high = middle
        return low

    def find(self, name: str) -> int | None:
        """Return the place of a recording, None when there is none of that name."""
        place = self._first_not_below(name)
        return place if place < len(self.names) and self.names[place] == name else None

    def utterances_of(self, recordings: range) -> range:
        """Return the utterances of neighbouring recordings."""
        bounds = np.searchsorted(self.recording, (recordings.start, recordings.stop))
        return range(int(bounds[0]), int(bounds[1]))

    @cached_property
    def _reasons(self) -> dict[int, int]:
        return {int(recording): place for place, recording in enumerate(self.rejected)}

    def __iter__(self) -> Iterator[Recording]:
        """Iterate over the recordings as they were appended."""
        bounds = np.searchsorted(self.recording, np.arange(len(self) + 1))
        for index, name in enumerate(self.names):
            reason = self._reasons.get(index)
            first, last = int(bounds[index]), int(bounds[index + 1])
            yield Recording(
                name,
                int(self.sizes[index]),
                int(self.stamps[index]),
                int(self.samples[index]),
                int(self.rates[index]),
                int(self.channels[index]),
                self._channel(index),
                bool(self.plain[index]),
                bool(self.mended[index]),
                self.reasons[reason] if reason is not None else "",
                (self.speakers[index] or None) if self.speakers is not None else None,
                (self.texts[index] or None) if self.texts is not None else None,
                tuple(zip(self.start[first:last].tolist(), self.length[first:last].tolist(), strict=True)),
            )


class ManifestWriter:
    """Writes a manifest into an empty folder from recordings in order of their names.

    Memory: about 70 bytes a recording and 20 an utterance; no Python object stays.
    """

    def __init__(self, folder: Path, *, key: str) -> None:
        self._folder, self._key = folder, key
        self._strings = {
            name: StringsWriter(folder, name) for name in ("names", "reasons", "speakers", "texts")
        }
        self._numbers = {name: array(_code(kind)) for name, kind in (_NUMBERS | _UTTERANCES).items()}
        self._rejected = array("q")
        self._known = {"speakers": False, "texts": False}
        self._digest = hashlib.sha256(key.encode())
        self._last: str | None = None

    def append(self, recording: Recording) -> None:
        """Add a recording; names must rise."""
        if self._last is not None and recording.name <= self._last:
            raise ValueError(f"{recording.name} comes after {self._last}")
        self._last = recording.name
        index = len(self._numbers["sizes"])
        for name, value in (
            ("sizes", recording.size_bytes),
            ("stamps", recording.stamp),
            ("samples", recording.samples),
            ("rates", recording.sample_rate_hz),
            ("channels", recording.channels),
            ("only", -1 if recording.channel is None else recording.channel),
            ("plain", int(recording.plain)),
            ("mended", int(recording.mended)),
        ):
            self._numbers[name].append(value)
        self._strings["names"].append(recording.name)
        for name, text in (("speakers", recording.speaker), ("texts", recording.text)):
            self._known[name] |= text is not None
            self._strings[name].append(text or "")
        pieces = recording.pieces if recording.pieces is not None else ((0, recording.samples),)
        self._digest.update(repr((*recording.same, recording.reason or pieces)).encode())
        if recording.reason:
            self._rejected.append(index)
            self._strings["reasons"].append(recording.reason)
            return
        for start, samples in pieces:
            self._numbers["recording"].append(index)
            self._numbers["start"].append(start)
            self._numbers["length"].append(samples)

    def finish(self) -> None:
        """Write what is not written yet; the folder is a manifest then."""
        for strings in self._strings.values():
            strings.close()
        for name, values in self._numbers.items():
            kind = (_NUMBERS | _UTTERANCES)[name]
            np.save(
                self._folder / f"{name}.npy", np.frombuffer(values, kind) if values else np.zeros(0, kind)
            )
        rejected = np.frombuffer(self._rejected, "<i8") if self._rejected else np.zeros(0, "<i8")
        np.save(self._folder / "rejected.npy", rejected)
        document = {
            "format": FORMAT_VERSION,
            "key": self._key,
            "digest": self._digest.hexdigest()[:16],
            "recordings": len(self._numbers["sizes"]),
            "utterances": len(self._numbers["recording"]),
            **self._known,
        }
        (self._folder / MANIFEST_FILE).write_text(json.dumps(document) + "\n", encoding="utf-8")


def _code(kind: str) -> str:
    """Return the type code of `array` for a numpy type."""
    return {"<i8": "q", "<i4": "i", "<u4": "I"}[kind]


@dataclass(frozen=True)
class Strings(Sequence[str]):
    """Millions of short texts in two files: the texts, one a line, and where each starts.

    They are memory-mapped and decoded one by one: opening costs nothing, whatever their number.
    """

    text: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    """Where each line starts, and the end of the last."""

    @classmethod
    def open(cls, folder: Path, name: str) -> Strings:
        """Map `<name>.txt` and `<name>_offsets.npy`. Raises: OSError and ValueError when they are damaged."""
        offsets = map_column(folder / f"{name}_offsets.npy", "<i8")
        size = size_of_regular(folder / f"{name}.txt")
        if not len(offsets) or int(offsets[-1]) != size:
            raise ValueError(f"{name}.txt has {size} bytes, its last line ends elsewhere")
        text = np.memmap(folder / f"{name}.txt", np.uint8, mode="r") if size else np.zeros(0, np.uint8)
        return cls(np.asarray(text), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        line = self.text[self.offsets[position] : self.offsets[position + 1]].tobytes()
        # Damage shows as another name, which nothing has.
        return line.decode("utf-8", "replace").removesuffix("\n")


class StringsWriter:
    """Writes what `Strings.open` maps; memory grows by 8 bytes a text."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._stream: BinaryIO = (folder / f"{name}.txt").open("wb")
        self._offsets = array("q", [0])

    def append(self, text: str) -> None:
        line = f"{text}\n".encode()
        self._stream.write(line)
        self._offsets.append(self._offsets[-1] + len(line))

    def close(self) -> None:
        self._stream.close()
        np.save(self._folder / f"{self._name}_offsets.npy", np.frombuffer(self._offsets, np.int64))
