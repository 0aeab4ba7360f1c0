"""Ogg as its pages tell it: where each link of a chain begins, and whether the last one ends."""

import os
from typing import BinaryIO

from wavslm_core.data.containers.stream import Layout, Stream

_CAPTURE = b"OggS"
_HEADER_BYTES = 27
_FIRST, _LAST = 0x02, 0x04
"""Flags of a page: the first, the last of its stream."""
_BLOCK_BYTES = 1 << 16
_TAIL_BYTES = 3 << 16
"""More than two of the longest pages."""


def ogg_layout(file: BinaryIO, start: int) -> Layout:
    """Return the links of an Ogg file; pages between which nothing belongs to the stream are passed over."""
    size = file.seek(0, os.SEEK_END)
    begins: list[int] = []
    at, opening, ended = start, False, False
    while at < size:
        file.seek(at)
        header = file.read(_HEADER_BYTES + 255)
        if header[:4] != _CAPTURE or len(header) < _HEADER_BYTES:
            at = _next_page(file, at + 1, size)
            continue
        segments = header[26]
        flags = header[5]
        # Several streams that run side by side all open before any goes on.
        if flags & _FIRST and not opening:
            begins.append(at)
        opening, ended = bool(flags & _FIRST), bool(flags & _LAST)
        at += _HEADER_BYTES + segments + sum(header[_HEADER_BYTES : _HEADER_BYTES + segments])
    if not ended or at > size:
        return Layout(cut="its last page does not end the stream")
    if len(begins) < 2:
        return Layout()
    ends = [*begins[1:], size]
    return Layout(tuple(Stream(b"", begin, end) for begin, end in zip(begins, ends, strict=True)))


def last_page_samples(file: BinaryIO) -> int | None:
    """Return how many samples the last page of an Ogg stream holds, None when it is not clear."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES)
    found: list[tuple[bytes, int]] = []
    at = len(tail)
    while len(found) < 2 and (at := tail.rfind(_CAPTURE, 0, at)) >= 0:
        header = tail[at : at + _HEADER_BYTES]
        position = int.from_bytes(header[6:14], "little", signed=True)
        # -1: no packet ends there.
        if len(header) == _HEADER_BYTES and position >= 0:
            found.append((header[14:18], position))
    if len(found) < 2 or found[0][0] != found[1][0]:
        return None
    return max(0, found[0][1] - found[1][1])


def _next_page(file: BinaryIO, at: int, size: int) -> int:
    """Return where the next page starts, `size` when there is none."""
    while at < size:
        file.seek(at)
        block = file.read(_BLOCK_BYTES)
        place = block.find(_CAPTURE)
        if place >= 0:
            return at + place
        at += max(1, len(block) - len(_CAPTURE) + 1)
    return size
