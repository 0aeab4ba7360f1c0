"""MPEG audio as its frames tell it: how many there are, and where files that were joined begin.

Every frame says how long it is, so that they can be counted without being decoded. An index (a first frame
with the mark Xing or Info) announces their number; many files have none, and of joined files the first index
knows nothing of the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise
from typing import BinaryIO

from wavslm_core.data.containers.stream import TOLERATED_SECONDS, Layout, Stream
from wavslm_core.data.containers.tags import ID3_BYTES, id3_length

_BLOCK_BYTES = 1 << 18
_LONGEST_FRAME = 4096
_MOST_JUNK = 1 << 24
"""Bytes between frames that are looked through, all together: nothing of use was ever behind more."""
_DECODER_DELAY = 529
"""Samples by which a decoder is late: it gives fewer than all of what fills up the last frame."""
_INDEX_MARKS = (b"Xing", b"Info")
_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s by (1 or 2 of MPEG-1, -2; layer); 2.5 is as 2."""
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""Sampling rates in Hz by the version's bits."""


@dataclass(frozen=True)
class _Kind:
    """What all frames of one stream have in common."""

    first: bool
    """MPEG-1, not 2 or 2.5."""
    layer: int
    rate_hz: int

    @property
    def samples(self) -> int:
        """Samples of a frame."""
        if self.layer == 1:
            return 384
        return 1152 if self.first or self.layer == 2 else 576

    def mark_at(self, mode: int) -> int:
        """Return where in a frame of layer III the mark of an index stands; `mode` is its fourth byte."""
        mono = mode >> 6 == 3
        return 4 + ((17 if mono else 32) if self.first else (9 if mono else 17))


@dataclass
class _Run:
    """Frames of one kind, one right after the other."""

    kind: _Kind
    start: int
    index: bytes = b""
    """The frame with the index, if the run begins with one; it is not counted."""
    frames: int = 0
    first_bytes: int = 0
    """Length of the first frame that counts."""
    end: int = 0
    damaged_bytes: int = 0
    """Bytes before it that are no frames, where the run before it broke off."""

    def goes_on_from(self, before: _Run) -> bool:
        """Return whether only damage separates it from the run before it: no tag, no index."""
        return self.damaged_bytes > 0 and not self.index and self.kind == before.kind

    @property
    def announced(self) -> int | None:
        """How many frames the index says there are."""
        at = self._count_at
        return None if at is None else int.from_bytes(self.index[at : at + 4], "big") or None

    @property
    def _count_at(self) -> int | None:
        if not self.index:
            return None
        mark = self.kind.mark_at(self.index[3])
        counts = len(self.index) >= mark + 12 and self.index[mark + 7] & 1
        return mark + 8 if counts else None

    @property
    def _filler_at(self) -> int | None:
        """Where the index says how many samples fill up the last frame: the last 12 bits of two bytes."""
        if self._count_at is None:
            return None
        flags = self.index[self._count_at - 1]
        encoder = self._count_at + 4 + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
        return encoder + 22 if len(self.index) >= encoder + 24 and self.index[encoder] else None

    @property
    def filler(self) -> int:
        """Samples at the end of its last frame that are none of the recording's."""
        at = self._filler_at
        told = 0 if at is None else int.from_bytes(self.index[at : at + 2], "big") & 0xFFF
        return max(0, told - _DECODER_DELAY)

    def stream(self, *, goes_on: bool, filler: int) -> Stream:
        """Return the run so that a decoder knows of all its frames.

        `goes_on`: its last frame is not the recording's. `filler`: as the index of an earlier run says.
        """
        at, begin, head = self._count_at, self.start + len(self.index), bytearray(self.index)
        if at is not None:
            head[at : at + 4] = self.frames.to_bytes(4, "big")
            if goes_on and self.filler and self._filler_at is not None:
                head[self._filler_at] = head[self._filler_at] & 0xF0 | _DECODER_DELAY >> 8
                head[self._filler_at + 1] = _DECODER_DELAY & 0xFF
            return Stream(bytes(head), begin, self.end)
        # Without an index a decoder takes all frames to be as long as the first.
        claimed = (self.frames + 2) * (self.first_bytes + 1)
        return Stream(b"", begin, self.end, max(0, self.frames * self.kind.samples - filler), claimed)


def mpeg_layout(file: BinaryIO, start: int) -> Layout:
    """Return the streams of MPEG audio. Layers I and II have no index: they are left to libsndfile."""
    found = _runs(file, start)
    runs = [run for run in found if run.frames > 1 or run.index]
    if not runs or any(run.kind.layer != 3 for run in runs):
        return Layout()
    remark = ""
    for place, run in enumerate(runs):
        frames, damaged = _frames_from(runs[place:])
        missing = (run.announced or 0) - frames
        if (missing - damaged) * run.kind.samples > TOLERATED_SECONDS * run.kind.rate_hz + run.kind.samples:
            return Layout(cut=f"its index says {run.announced} frames, {frames} are there")
        if run.frames < (run.announced or 0):
            remark = f"its index says {run.announced} frames, {frames} are there"
    if len(runs) == 1 and runs[0].announced == runs[0].frames:
        return Layout()
    # Most files without an index: their crops need no look at every frame.
    alike = len(found) == 1 and found[0].start == start
    return Layout(tuple(_streams(runs)), alike=alike, remark=remark)


def _streams(runs: list[_Run]) -> Iterator[Stream]:
    """Yield the streams; what fills up the last frame is cut off where damage ends, not where it begins."""
    filler, goes_on = 0, False
    for run, after in pairwise(chain(runs, [None])):
        assert run is not None
        filler = run.filler if run.index else filler if goes_on else 0
        goes_on = after is not None and after.goes_on_from(run)
        if run.frames:
            yield run.stream(goes_on=goes_on, filler=0 if goes_on else filler)


def _frames_from(runs: list[_Run]) -> tuple[int, float]:
    """Return how many frames the first run and those that go on from it hold, and about how many are damaged:
    a damaged header ends a run, but not the file."""
    frames, damaged = runs[0].frames, 0.0
    for before, run in pairwise(runs):
        if not run.goes_on_from(before):
            break
        frames += run.frames
        damaged += run.damaged_bytes * run.frames / (run.end - run.start)
    return frames, damaged


@cache
def _frame_sizes() -> dict[bytes, tuple[int, _Kind]]:
    """Return the first three bytes of a frame → its length in bytes, and its kind."""
    found = {}
    for second in range(0xE0, 0x100):
        version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
        if version == 1 or layer == 4:
            continue
        bitrates = _BITRATES[1 if version == 3 else 2, layer]
        for third in range(0x100):
            bitrate, rate, padding = third >> 4, third >> 2 & 3, third >> 1 & 1
            if not 1 <= bitrate <= 14 or rate == 3:
                continue
            kind = _Kind(version == 3, layer, _RATES[version][rate])
            bits = bitrates[bitrate - 1] * 1000
            if layer == 1:
                size = (12 * bits // kind.rate_hz + padding) * 4
            else:
                size = kind.samples // 8 * bits // kind.rate_hz + padding
            found[bytes((0xFF, second, third))] = size, kind
    return found


def _runs(file: BinaryIO, start: int) -> list[_Run]:
    """Return all stretches of whole frames; a new one begins with a tag, an index, or where an index ends."""
    sizes = _frame_sizes()
    runs: list[_Run] = []
    run: _Run | None = None
    data, base, at, more, junk, tagged = b"", start, 0, True, 0, True
    file.seek(start)
    while True:
        if len(data) - at < 2 * _LONGEST_FRAME and more:
            block = file.read(_BLOCK_BYTES)
            data, base, at, more = data[at:] + block, base + at, 0, bool(block)
            continue
        size, kind = sizes.get(data[at : at + 3], (0, None))
        joined = run is not None and kind == run.kind
        whole = 0 < size <= len(data) - at
        if not whole or kind is None or not (joined or _goes_on(data, at + size, kind)):
            run = None
            if tag := id3_length(data[at : at + ID3_BYTES]):
                base, data, at = base + at + tag, b"", 0
                file.seek(base)
                more = tagged = True
                continue
            begin = at
            at = data.find(b"\xff", at + 1)
            if at < 0:
                at = len(data)
            junk += at - begin
            if (at == len(data) and not more) or junk > _MOST_JUNK:
                return runs
            continue
        mark = at + kind.mark_at(data[at + 3])
        index = kind.layer == 3 and data[mark : mark + 4] in _INDEX_MARKS
        if run is None or index or run.frames == run.announced or not joined:
            damaged = 0 if tagged else base + at - runs[-1].end
            run, tagged = _Run(kind, base + at, damaged_bytes=damaged), False
            runs.append(run)
        if index:
            run.index = data[at : at + size]
        else:
            run.frames += 1
            run.first_bytes = run.first_bytes or size
        at += size
        run.end = base + at


def _goes_on(data: bytes, at: int, kind: _Kind) -> bool:
    """Return whether a frame of that kind follows, or nothing: bytes that look like one frame are common."""
    return at >= len(data) or _frame_sizes().get(data[at : at + 3], (0, None))[1] == kind
