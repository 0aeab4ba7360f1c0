"""FLAC as its frames tell it: each says which samples it holds, and so the last one how many there are."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise
from typing import BinaryIO

from wavslm_core.data.containers.stream import TOLERATED_SECONDS, Layout, Stream
from wavslm_core.data.containers.tags import before_tags

_MAGIC = b"fLaC\x00\x00\x00\x22"
"""A stream starts with it: the mark, and the header of the block STREAMINFO."""
_INFO_BYTES = 34
_TOTAL_AT = len(_MAGIC) + 13
"""Where the 36 bits of the number of samples start, in the middle of a byte."""
_SYNCS = (b"\xff\xf8", b"\xff\xf9")
"""How frames start: where all blocks are of one size, and where they are not."""
_HEADER_BYTES = 16
"""What a frame's header has at most."""
_BLOCK_BYTES = 1 << 20
_PROBES = 8
"""Places between the first and the last frame that are looked at: in a file that was joined numbers fall."""
_MOST_BLOCK_TAIL = 1 << 22
_MOST_SUMMED = 1 << 22
"""Bytes whose check sums are computed to find the last frame that is whole: a second's work."""
_RATES_HZ = (0, 88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000)
"""By the code in a frame's header; 0: as STREAMINFO says."""
_RATE_UNITS = {12: (1, 1000), 13: (2, 1), 14: (2, 10)}
"""Code → bytes at the header's end that hold the rate, and its unit in Hz."""
_BITS = (0, 8, 12, -1, 16, 20, 24, 32)
_MOST_SAMPLES = 1 << 36
"""What the field for their number does not hold."""


@dataclass(frozen=True)
class _Head:
    """What stands before the first frame."""

    start: int
    frames_at: int
    sync: bytes
    block: int
    rate_hz: int
    channels: int
    bits: int
    total: int

    @property
    def longest_frame(self) -> int:
        """Bytes of a frame that nothing could be saved of."""
        return min(_MOST_BLOCK_TAIL, self.block * self.channels * (self.bits + 7) // 8 + 64)


@dataclass(frozen=True)
class _Frame:
    at: int
    first: int
    """Its first sample."""
    block: int

    @property
    def end(self) -> int:
        """The sample after its last."""
        return self.first + self.block


def flac_layout(file: BinaryIO, start: int) -> Layout:
    """Return the streams of a FLAC file: none where the header is right."""
    size = file.seek(0, os.SEEK_END)
    head = _head(file, start)
    if head is None:
        return Layout()
    end = before_tags(file, head.frames_at, size)
    last = next(_frames_back(file, head, end), None)
    if last is not None and last.end != head.total > 0:
        last = _last_whole(file, head, end)
    if last is None or last.end != head.total or not _rises(file, head, last.at):
        return _streams(file, start, size)
    # What was joined at another rate has no frames of this stream.
    joined = any(_begins(file, last.at))
    return _streams(file, start, size) if joined else Layout()


def _head(file: BinaryIO, start: int) -> _Head | None:
    file.seek(start)
    content = file.read(len(_MAGIC) + _INFO_BYTES)
    if len(content) < len(_MAGIC) + _INFO_BYTES or content[4] & 0x7F or content[5:8] != _MAGIC[5:]:
        return None
    packed = int.from_bytes(content[_TOTAL_AT - 3 : _TOTAL_AT + 5], "big")
    at, last = start + len(content), content[4] & 0x80
    while not last:
        file.seek(at)
        block = file.read(4)
        if len(block) < 4:
            return None
        last = block[0] & 0x80
        at += 4 + int.from_bytes(block[1:], "big")
    file.seek(at)
    sync = file.read(2)
    if sync not in _SYNCS:
        return None
    return _Head(
        start,
        at,
        sync,
        int.from_bytes(content[10:12], "big"),
        packed >> 44,
        (packed >> 41 & 7) + 1,
        (packed >> 36 & 31) + 1,
        packed & (1 << 36) - 1,
    )


def _frames_back(file: BinaryIO, head: _Head, end: int) -> Iterator[_Frame]:
    """Yield what looks like a frame's header before `end`, the last first, however much else follows it."""
    before, room = end, 2 * head.longest_frame
    while before > head.frames_at:
        at = max(head.frames_at, before - room)
        file.seek(at)
        # A header may lie across the bound.
        data = file.read(min(end, before + _HEADER_BYTES) - at)
        place = before - at
        while (place := data.rfind(head.sync, 0, place + 1)) >= 0:
            if frame := _frame(data, place, head, at):
                yield frame
            place -= 1
        before, room = at, max(room, _BLOCK_BYTES)


def _last_whole(file: BinaryIO, head: _Head, end: int) -> _Frame | None:
    """Return the last frame before `end` that is whole: audio may look like a header, only sums tell."""
    bounds, summed = [end], 0
    for frame, before in pairwise(chain(_frames_back(file, head, end), [None])):
        assert frame is not None
        file.seek(frame.at)
        data = file.read(min(end - frame.at, head.longest_frame + 1))
        sums = list(_crc16_sums(data))
        if len(data) > head.longest_frame:
            # Something else follows: it ends where its sum is right, which of audio may be anywhere.
            whole = 0 in sums and frame.first == (before.end if before is not None else 0)
        else:
            whole = any(sums[bound - frame.at - 1] == 0 for bound in bounds)
        if whole:
            return frame
        bounds.append(frame.at)
        summed += len(data)
        if summed > _MOST_SUMMED:
            break
    return None


def _rises(file: BinaryIO, head: _Head, end: int) -> bool:
    """Return whether the frames that are found here and there come in the order of their samples."""
    before = -1
    room = end - head.frames_at
    for probe in range(_PROBES):
        at = head.frames_at + room * probe // _PROBES
        file.seek(at)
        data = file.read(min(2 * head.longest_frame, end - at))
        frame = next(_frames(data, head, at), None)
        if frame is None:
            continue
        if frame.first < before:
            return False
        before = frame.first
    return True


def _streams(file: BinaryIO, start: int, size: int) -> Layout:
    """Return every stream with the length that its last whole frame tells."""
    begins = [start, *_begins(file, start + len(_MAGIC))]
    streams: list[Stream] = []
    remark = ""
    for begin, end in zip(begins, [*begins[1:], size], strict=True):
        head = _head(file, begin)
        if head is None:
            continue
        samples = _whole_samples(file, head, end)
        missing = head.total - samples
        if missing:
            said = f"its header says {head.total} samples, {samples} are there"
            if missing > TOLERATED_SECONDS * head.rate_hz:
                return Layout(cut=said)
            # A program that writes to a pipe cannot know, and says 0.
            remark = said if head.total else remark
        if samples:
            file.seek(begin)
            content = bytearray(file.read(_TOTAL_AT + 5))
            content[_TOTAL_AT] = content[_TOTAL_AT] & 0xF0 | samples >> 32
            content[_TOTAL_AT + 1 :] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
            streams.append(Stream(bytes(content), begin + len(content), end, samples))
    return Layout(tuple(streams), remark=remark)


def _begins(file: BinaryIO, at: int) -> Iterator[int]:
    """Yield where streams start from `at` on."""
    file.seek(at)
    data = b""
    while block := file.read(_BLOCK_BYTES):
        data += block
        place = -1
        while (place := data.find(_MAGIC[:4], place + 1)) >= 0:
            if data[place + 5 : place + len(_MAGIC)] == _MAGIC[5:] and not data[place + 4] & 0x7F:
                yield at + place
        kept = min(len(data), len(_MAGIC) - 1)
        at += len(data) - kept
        data = data[-kept:]


def _whole_samples(file: BinaryIO, head: _Head, end: int) -> int:
    """Return how many samples there are up to the last frame that is whole."""
    last = _last_whole(file, head, before_tags(file, head.frames_at, end))
    return 0 if last is None else last.end


def _frames(data: bytes, head: _Head, base: int) -> Iterator[_Frame]:
    place = -1
    while (place := data.find(head.sync, place + 1)) >= 0:
        if frame := _frame(data, place, head, base):
            yield frame


def _frame(data: bytes, at: int, head: _Head, base: int) -> _Frame | None:
    """Return the frame whose header stands at `at`, None when there is none.

    Its check sum must be right, and what it says must be what STREAMINFO says.
    """
    header = data[at : at + _HEADER_BYTES]
    if len(header) < 6:
        return None
    code, rate_code = header[2] >> 4, header[2] & 15
    channels, bits = header[3] >> 4, header[3] >> 1 & 7
    if not code or rate_code == 15 or header[3] & 1 or _BITS[bits] not in (0, head.bits):
        return None
    if (channels + 1 if channels < 8 else 2) != head.channels or channels > 10:
        return None
    # A number is written as UTF-8 writes a letter, in up to seven bytes.
    lead = header[4]
    if lead >> 6 == 2 or lead == 0xFF:
        return None
    length = max(1, 8 - (lead ^ 0xFF).bit_length())
    number = lead & (0x7F if length == 1 else 0xFF >> length + 1)
    for byte in header[5 : 4 + length]:
        if byte >> 6 != 2:
            return None
        number = number << 6 | byte & 0x3F
    end = 4 + length
    block = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8 if code > 7 else 0
    if not block:
        block = int.from_bytes(header[end : end + code - 5], "big") + 1
        end += code - 5
    if rate_code < len(_RATES_HZ):
        rate_hz = _RATES_HZ[rate_code]
    else:
        size, unit = _RATE_UNITS[rate_code]
        rate_hz = int.from_bytes(header[end : end + size], "big") * unit
        end += size
    if rate_hz not in (0, head.rate_hz) or block > head.block:
        return None
    if end >= len(header) or _crc8(header[:end]) != header[end]:
        return None
    # Where all blocks are of one size, frames are numbered, otherwise samples.
    frame = _Frame(base + at, number if head.sync[1] & 1 else number * head.block, block)
    return frame if frame.end < _MOST_SAMPLES else None


def _crc8(data: bytes) -> int:
    table, value = _crc_table(8, 0x07), 0
    for byte in data:
        value = table[value ^ byte]
    return value


def _crc16_sums(data: bytes) -> Iterator[int]:
    """Yield the check sum up to and with each byte."""
    table, value = _crc_table(16, 0x8005), 0
    for byte in data:
        value = (value << 8 & 0xFF00) ^ table[value >> 8 ^ byte]
        yield value


@cache
def _crc_table(bits: int, polynomial: int) -> tuple[int, ...]:
    table = []
    for value in range(256):
        value <<= bits - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> bits - 1 else 0)
            value &= (1 << bits) - 1
        table.append(value)
    return tuple(table)
