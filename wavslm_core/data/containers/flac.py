"""FLAC as its frames tell it: each says which samples it holds, and so the last one how many there are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
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


def flac_layout(file: BinaryIO, start: int) -> Layout:
    """Return the streams of a FLAC file: none where the header is right."""
    size = file.seek(0, os.SEEK_END)
    head = _head(file, start)
    if head is None:
        return Layout()
    end = before_tags(file, head.frames_at, size)
    last = _last_frame(file, head, end)
    if last is not None and last.first + last.block == head.total and _rises(file, head, last.at):
        return Layout()
    return _streams(file, start, size)


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


def _last_frame(file: BinaryIO, head: _Head, end: int) -> _Frame | None:
    """Return the frame whose header is the last one before `end`, however much else follows it."""
    room = 2 * head.longest_frame
    while end > head.frames_at:
        at = max(head.frames_at, end - room)
        file.seek(at)
        data = file.read(end - at)
        place = len(data)
        while (place := data.rfind(head.sync, 0, place + 1)) >= 0:
            if frame := _frame(data, place, head, at):
                return frame
            place -= 1
        if at == head.frames_at:
            return None
        # A header may lie across the bound.
        end, room = at + _HEADER_BYTES, max(room, _BLOCK_BYTES)
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
    end = before_tags(file, head.frames_at, end)
    last = _last_frame(file, head, end)
    if last is None:
        return 0
    file.seek(last.at)
    data = file.read(min(end - last.at, head.longest_frame + 1))
    # Where more is left than a frame can have, something else follows: it ends where its sum is right.
    sums = list(_crc16_sums(data))
    whole = 0 in sums if len(data) > head.longest_frame else sums[-1] == 0
    return last.first + (last.block if whole else 0)


def _frames(data: bytes, head: _Head, base: int) -> Iterator[_Frame]:
    place = -1
    while (place := data.find(head.sync, place + 1)) >= 0:
        if frame := _frame(data, place, head, base):
            yield frame


def _frame(data: bytes, at: int, head: _Head, base: int) -> _Frame | None:
    """Return the frame whose header stands at `at`, None when there is none: its check sum must be right."""
    header = data[at : at + _HEADER_BYTES]
    if len(header) < 6:
        return None
    code, rate_code = header[2] >> 4, header[2] & 15
    channels, bits = header[3] >> 4, header[3] >> 1 & 7
    if not code or rate_code == 15 or header[3] & 1 or bits == 3:
        return None
    if (channels + 1 if channels < 8 else 2) != head.channels or channels > 10:
        return None
    length = max(1, 8 - (header[4] ^ 0xFF).bit_length())
    number = header[4] & (0x7F if length == 1 else 0xFF >> length + 1)
    for byte in header[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    end = 4 + length
    block = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8 if code > 7 else 0
    if not block:
        block = int.from_bytes(header[end : end + code - 5], "big") + 1
        end += code - 5
    end += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if block > head.block or end >= len(header) or _crc8(header[:end]) != header[end]:
        return None
    # Where all blocks are of one size, frames are numbered, otherwise samples.
    return _Frame(base + at, number if head.sync[1] & 1 else number * head.block, block)


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
