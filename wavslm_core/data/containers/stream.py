"""Streams: the stretches of a file that are files of their own."""

import io
import os
from dataclasses import dataclass
from typing import Any, BinaryIO

TOLERATED_SECONDS = 0.1
"""What a header may announce beyond what is there before the file counts as cut off."""
_TAG_BYTES = 128
"""Where a decoder looks for a tag at the end: that must be there, though it be empty."""


@dataclass(frozen=True)
class Stream:
    """`head`, then the bytes `start` to `end` of the file: what libsndfile reads whole."""

    head: bytes
    start: int
    end: int
    samples: int | None = None
    """How many it holds, where the container tells without being decoded."""
    claimed: int = 0
    """The bytes that the file is to pretend to have, if they are more: some decoders guess from them how many
    samples there are."""


@dataclass(frozen=True)
class Layout:
    """The streams of a file, in order."""

    streams: tuple[Stream, ...] = ()
    """None: the file as it is can be read whole."""
    alike: bool = False
    """The streams give what libsndfile reads of the file as it is, but for how far that goes."""
    cut: str = ""
    """What is missing of a file that was cut off."""
    remark: str = ""
    """What is wrong with a file that can be read all the same."""


class StreamFile(io.RawIOBase):
    """A stream as a file that can be read and sought."""

    def __init__(self, file: BinaryIO, stream: Stream) -> None:
        self._file, self._stream = file, stream
        self._real = len(stream.head) + stream.end - stream.start
        self._size = max(self._real, stream.claimed)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        head, at = self._stream.head, self._at
        wanted = min(len(buffer), max(0, self._real - at))
        data = head[at : at + wanted]
        if len(data) < wanted:
            self._file.seek(self._stream.start + max(0, at - len(head)))
            data += self._file.read(wanted - len(data))
        elif at >= max(self._real, self._size - _TAG_BYTES):
            data = bytes(min(len(buffer), max(0, self._size - at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
