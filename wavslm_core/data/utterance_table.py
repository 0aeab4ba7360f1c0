"""Utterances of a manifest as a sequence that makes each when it is asked for."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wavslm_core.data.corpora import Utterance
from wavslm_core.data.manifest import Manifest

IntArray = npt.NDArray[np.int64]
Describe = Callable[[int, str], str | None]
"""Of a recording (index, name)."""


class UtteranceTable(Sequence[Utterance]):
    """Some of the utterances of a manifest; ten million of them take no memory until they are used."""

    def __init__(
        self,
        manifest: Manifest,
        rows: range | npt.NDArray[Any],
        *,
        cut: bool,
        speaker: Describe = lambda index, name: None,
        text: Describe = lambda index, name: None,
    ) -> None:
        """`rows` are places in the manifest's columns of utterances; `cut`: ids tell where one starts."""
        self._manifest = manifest
        self._rows = rows
        self._cut = cut
        self._speaker, self._text = speaker, text

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = int(self._rows[range(len(self))[index]])
        manifest = self._manifest
        recording = int(manifest.recording[row])
        name = manifest.names[recording]
        return Utterance(
            f"{name}@{int(manifest.start[row])}" if self._cut else name,
            int(manifest.length[row]),
            int(manifest.rates[recording]),
            self._speaker(recording, name),
            self._text(recording, name),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_same, self, other))

    __hash__ = None  # type: ignore[assignment]

    def _of(self, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
        rows = self._rows
        return column[rows.start : rows.stop] if isinstance(rows, range) else column[rows]

    @property
    def recordings(self) -> IntArray:
        """The recording that each utterance is in, (N,)."""
        return self._of(self._manifest.recording)

    def durations_s(self) -> npt.NDArray[np.float64]:
        """Return the duration of each utterance in seconds, (N,), without making any."""
        return self._of(self._manifest.length) / self._manifest.rates[self.recordings]

    def seconds_by_rate(self) -> Counter[int]:
        """Return sampling rate in Hz → seconds."""
        return self._seconds_by(self._manifest.rates)

    def seconds_by_channels(self) -> Counter[int]:
        """Return channels of the files → seconds."""
        return self._seconds_by(self._manifest.channels)

    def _seconds_by(self, column: npt.NDArray[Any]) -> Counter[int]:
        values, places = np.unique(column[self.recordings], return_inverse=True)
        sums = np.bincount(places, self.durations_s(), len(values))
        return Counter(dict(zip(values.tolist(), sums.tolist(), strict=True)))

    def seconds_by_speaker(self) -> Counter[str]:
        """Return speaker → seconds, without what nobody is known to speak in."""
        recordings, seconds = self.recordings.astype(np.int64), self.durations_s()
        firsts = np.flatnonzero(np.diff(recordings, prepend=-1))
        sums = np.add.reduceat(seconds, firsts) if len(firsts) else seconds
        names = self._manifest.names
        found: Counter[str] = Counter()
        for recording, total in zip(recordings[firsts].tolist(), sums.tolist(), strict=True):
            speaker = self._speaker(recording, names[recording])
            if speaker is not None:
                found[speaker] += total
        return found

    def content_digest(self) -> str:
        """Return 16 hex digits that change when any utterance does: its recording, place or length."""
        manifest, recordings = self._manifest, self.recordings
        digest = hashlib.sha256(b"cut" if self._cut else b"whole")
        for column in (manifest.start, manifest.length):
            digest.update(np.ascontiguousarray(self._of(column)).tobytes())
        # Which utterances belong to which recording, whatever the recordings' places in the manifest are.
        firsts = np.flatnonzero(np.diff(recordings.astype(np.int64), prepend=-1))
        digest.update(firsts.tobytes())
        digest.update(names_digest(manifest, recordings[firsts]).encode())
        return digest.hexdigest()[:16]


def _same(first: object, second: object) -> bool:
    return first == second


def names_digest(manifest: Manifest, recordings: IntArray) -> str:
    """Return a digest of the names and rates of recordings in rising order, reading neighbours at once."""
    digest = hashlib.sha256(np.ascontiguousarray(manifest.rates[recordings]).tobytes())
    for first, last in neighbours(recordings):
        bounds = manifest.names.offsets
        digest.update(manifest.names.text[bounds[first] : bounds[last]].tobytes())
    return digest.hexdigest()


def neighbours(rising: IntArray) -> list[tuple[int, int]]:
    """Return (first, last + 1) of each stretch of consecutive numbers."""
    numbers = np.asarray(rising, np.int64)
    if not len(numbers):
        return []
    breaks = np.flatnonzero(np.diff(numbers) != 1)
    firsts = numbers[np.concatenate([[0], breaks + 1])]
    lasts = numbers[np.concatenate([breaks, [len(numbers) - 1]])] + 1
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))
