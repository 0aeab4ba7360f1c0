"""Tags before, between and behind the audio."""

from typing import BinaryIO

ID3_BYTES = 10
_OLD_ID3_BYTES = 128
_APE_BYTES = 32
"""Of its footer, and of the header that it may have."""


def id3_length(header: bytes) -> int:
    """Return how many bytes the ID3v2 tag that starts with these ten has, 0 when it is none."""
    if len(header) < ID3_BYTES or header[:3] != b"ID3" or max(header[6:10]) > 0x7F:
        return 0
    body = header[6] << 21 | header[7] << 14 | header[8] << 7 | header[9]
    footer = ID3_BYTES if header[5] & 0x10 else 0
    return ID3_BYTES + body + footer


def after_tags(file: BinaryIO) -> int:
    """Return where what follows the ID3v2 tags at a file's start begins."""
    start = 0
    while True:
        file.seek(start)
        length = id3_length(file.read(ID3_BYTES))
        if not length:
            return start
        start += length


def before_tags(file: BinaryIO, start: int, end: int) -> int:
    """Return where the tags at a file's end begin, not before `start`: old ID3 tags, and APE tags."""
    while True:
        footer = _read_before(file, start, end, _OLD_ID3_BYTES)
        if footer[:3] == b"TAG" and len(footer) == _OLD_ID3_BYTES:
            length = _OLD_ID3_BYTES
        elif footer[-_APE_BYTES:][:8] == b"APETAGEX":
            length = int.from_bytes(footer[-20:-16], "little")
            length += _APE_BYTES if footer[-9] & 0x80 else 0
        else:
            return end
        if not 0 < length <= end - start:
            return end
        end -= length


def _read_before(file: BinaryIO, start: int, end: int, length: int) -> bytes:
    file.seek(max(start, end - length))
    return file.read(end - file.tell())
