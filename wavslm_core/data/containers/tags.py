"""ID3 tags before and between the audio."""

from __future__ import annotations

from typing import BinaryIO

ID3_BYTES = 10


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
