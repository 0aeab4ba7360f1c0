"""WAV, AIFF, Wave64, RF64 and AU: whether the samples are as many bytes as is announced."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from wavslm_core.data.containers.stream import TOLERATED_SECONDS, Layout, Stream
from wavslm_core.data.containers.tags import before_tags

_UNKNOWN = (range(0x7FFF0000, 0x80010000), range(0xFFFF0000, 0x100000000))
"""Programs that write to a pipe cannot know the length, and announce about the most that a field holds."""
_DS64 = 16
"""Bytes of the chunk `ds64` that are read: two lengths of 64 bits."""

Order = Literal["little", "big"]


@dataclass(frozen=True)
class _Form:
    """How a container writes its chunks."""

    order: Order = "little"
    first: int = 12
    """Where the first chunk starts."""
    name_bytes: int = 4
    length_bytes: int = 4
    samples: bytes = b"data"
    align: int = 2

    @property
    def header(self) -> int:
        return self.name_bytes + self.length_bytes


_FORMS = {
    b"RIFF": _Form(),
    b"RF64": _Form(),
    b"RIFX": _Form(order="big"),
    b"FORM": _Form(order="big", samples=b"SSND"),
    # Lengths count the chunk's own header.
    b"riff": _Form(first=40, name_bytes=16, length_bytes=8, align=8),
}


def chunks_layout(file: BinaryIO, start: int) -> Layout:
    """Return how a file of chunks is to be read.

    One that was never closed announces nothing, or what nobody measured, and all that follows is audio; one
    that announces a little more than there is was closed a little wrongly; one that announces much more was
    cut off. What follows the samples of a file that was closed is no audio, whatever it is.
    """
    size = before_tags(file, start, file.seek(0, os.SEEK_END))
    file.seek(start)
    form = _FORMS[file.read(4)]
    long_length, tolerated = 0, 0.0
    for name, at, length in _chunks(file, form, start, size):
        file.seek(at)
        if name == b"ds64":
            long_length = int.from_bytes(file.read(_DS64)[8:], "little")
        elif name in (b"fmt ", b"COMM"):
            tolerated = TOLERATED_SECONDS * _bytes_per_second(name, file.read(min(length, 26)), form.order)
        elif name == form.samples:
            if length == 0xFFFFFFFF and long_length:
                length = long_length
            return _samples_layout(file, form, start, at, length, size, tolerated)
    return Layout()


def _chunks(file: BinaryIO, form: _Form, start: int, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, place and length of each chunk's content."""
    at = start + form.first
    while at + form.header <= size:
        file.seek(at)
        header = file.read(form.header)
        length = int.from_bytes(header[form.name_bytes :], form.order)
        if form.length_bytes == 8:
            length = max(0, length - form.header)
        yield header[:4], at + form.header, length
        at += form.header + length
        at += (start - at) % form.align


def _bytes_per_second(name: bytes, content: bytes, order: Order) -> float:
    if name == b"fmt ":
        return float(int.from_bytes(content[8:12], order))
    if len(content) < 18:
        return 0.0
    channels, bits = int.from_bytes(content[:2], "big"), int.from_bytes(content[6:8], "big")
    exponent, mantissa = int.from_bytes(content[8:10], "big") & 0x7FFF, int.from_bytes(content[10:18], "big")
    return mantissa * 2.0 ** min(exponent - 16383 - 63, 0) * channels * bits / 8


def _samples_layout(
    file: BinaryIO, form: _Form, start: int, at: int, length: int, size: int, tolerated: float
) -> Layout:
    missing, end = at + length - size, at + length
    unclosed = not length or (form.length_bytes == 4 and any(length in lengths for lengths in _UNKNOWN))
    if missing > 0 and not unclosed:
        if missing > tolerated:
            return Layout(cut=f"{missing} bytes of its samples are missing")
        return Layout(remark=f"its header announces {missing} bytes of samples more than there are")
    # Not everybody fills an odd length up.
    follows = any(_chunk_follows(file, form, place, size) for place in {end, end + end % 2})
    if form.length_bytes == 8 or missing == 0 or follows or (length and 0 <= -missing <= tolerated):
        return Layout()
    over = -missing >> 32 << 32
    if unclosed:
        remark = "" if length else "it was never closed: all that follows its header is read"
        end = size
    elif over:
        remark, end = f"its header announces {over} bytes less than there are: they are read", end + over
    else:
        return Layout(remark=f"{-missing} bytes that are no audio follow its samples")
    file.seek(start)
    head = _announcing(file.read(at - start), end - at, form)
    return Layout((Stream(head, at, end),), remark=remark)


def _announcing(head: bytes, length: int, form: _Form) -> bytes:
    """Return what stands before the samples so that it announces that many bytes of them."""
    if length > 0xFFFFFFFF and head[:4] == b"RIFF":
        # What 32 bits do not hold makes the file an RF64.
        lengths = (len(head) + 28 + length).to_bytes(8, "little") + length.to_bytes(8, "little") + bytes(12)
        ds64 = b"ds64" + len(lengths).to_bytes(4, "little") + lengths
        return b"RF64\xff\xff\xff\xff" + head[8:12] + ds64 + head[12:-4] + b"\xff\xff\xff\xff"
    return head[: -form.length_bytes] + min(length, 0xFFFFFFFF).to_bytes(form.length_bytes, form.order)


def _chunk_follows(file: BinaryIO, form: _Form, at: int, size: int) -> bool:
    file.seek(at)
    header = file.read(8)
    named = len(header) == 8 and all(0x20 <= byte < 0x7F for byte in header[:4])
    return named and int.from_bytes(header[4:], form.order) <= size - at - 8
