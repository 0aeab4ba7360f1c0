"""Which container a file is, by its first bytes, and what it holds."""

from typing import BinaryIO

from wavslm_core.data.containers.chunks import chunks_layout
from wavslm_core.data.containers.flac import flac_layout
from wavslm_core.data.containers.mpeg import mpeg_layout
from wavslm_core.data.containers.ogg import ogg_layout
from wavslm_core.data.containers.stream import Layout
from wavslm_core.data.containers.tags import after_tags

_CHUNKED = {b"RIFF", b"RIFX", b"RF64", b"FORM", b"riff"}


def layout_of(file: BinaryIO) -> Layout:
    """Return the streams of an audio file, found without decoding it.

    Of MPEG audio and Ogg every frame and page is looked at, of FLAC the last frame and a few between, of WAV
    and its kin the headers. Other containers are left to libsndfile. Raises: OSError.
    """
    start = after_tags(file)
    file.seek(start)
    magic = file.read(4)
    if magic in _CHUNKED:
        return chunks_layout(file, start)
    if magic == b"fLaC":
        return flac_layout(file, start)
    if magic == b"OggS":
        return ogg_layout(file, start)
    if start or (magic[:1] == b"\xff" and len(magic) == 4 and magic[1] & 0xE0 == 0xE0):
        return mpeg_layout(file, start)
    return Layout()
