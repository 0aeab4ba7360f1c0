"""How libsndfile opens and reads audio."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from wavslm_core.data.audio_source import AudioBytes, AudioSource, not_audio, system_path
from wavslm_core.data.chatter import without_chatter
from wavslm_core.data.containers.ogg import last_page_samples
from wavslm_core.data.containers.stream import Stream, StreamFile
from wavslm_core.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_MPEG_SUFFIXES = frozenset({".mp3", ".mp2", ".mpga"})
_PASSED_SAMPLES = 1 << 20
"""Samples that are passed over at once where there is no seeking."""
_RUN_UP = {"MPEG_LAYER_III": 18_432, "OPUS": 18_432}
"""Samples before a part that are decoded with it: frames need what stood in those before, and right after a
seek libsndfile gives silence, or nearly the right thing, in the place of up to a second."""
_VORBIS_END, _VORBIS_BLOCK = 1 << 18, 1 << 13
"""Samples at the end of a Vorbis stream that are decoded from before them where its pages do not tell which
are in the last one, as seeks into that miss; and the longest block, which the pages before it end with."""


class Decoder:
    """An open audio file: what is used of `soundfile.SoundFile`, without the chatter of its MPEG decoder."""

    def __init__(self, file: str | bytes | IO[bytes] | StreamFile, *, chatters: bool) -> None:
        """`chatters`: the file may be MPEG audio."""
        from soundfile import SoundFile

        class SteadyFile(SoundFile):  # type: ignore[misc]
            """`soundfile` seeks after each reading where it can, which MPEG decoders answer with silence."""

            def seekable(self) -> bool:
                return False

        with without_chatter() if chatters else nullcontext():
            self._file = SteadyFile(file)
        self._source = file
        self._chatters = self._file.format == "MP3"
        self.samples = int(self._file.frames)
        """What libsndfile takes for the length."""
        self.sample_rate_hz = int(self._file.samplerate)
        self.channels = int(self._file.channels)
        self.holds_floats = self._file.subtype in {"FLOAT", "DOUBLE"}
        self.compressed = self._file.subtype.startswith(("MPEG", "VORBIS", "OPUS"))
        """Then samples depend on those before, and on where decoding begins."""
        self.can_seek = bool(SoundFile.seekable(self._file))
        self._subtype = self._file.subtype
        self._at = self._reached = 0
        """The next sample to be read, and the one that libsndfile is at."""

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, samples: int) -> npt.NDArray[np.float32]:
        """Return the next samples of all channels (S, C), fewer at the end; the same wherever one starts."""
        goes_on = self._reached == self._at or not self.can_seek
        begin = self._at if goes_on else self._begin()
        if begin <= self._reached <= self._at:
            # What lies between is decoded and dropped: cheaper than a seek and the same way.
            begin = self._reached
        with without_chatter() if self._chatters else nullcontext():
            if self._reached != begin:
                self._file.seek(begin)
            frames_SC = self._file.read(self._at - begin + samples, "float32", always_2d=True)
        wanted_SC: npt.NDArray[np.float32] = frames_SC[self._at - begin :]
        self._reached = self._at = self._at + len(wanted_SC)
        return wanted_SC

    def reaches(self, sample: int) -> bool:
        """Return whether a sample is there, whatever it is; the decoder is of no other use after."""
        self.go_to(sample)
        with without_chatter() if self._chatters else nullcontext():
            if self.can_seek:
                self._file.seek(sample)
            return len(self._file.read(1, "float32", always_2d=True)) == 1

    def _begin(self) -> int:
        """Return where decoding must begin for the next sample to be right."""
        if self._subtype != "VORBIS":
            return max(0, self._at - _RUN_UP.get(self._subtype, 0))
        # The first seek is right, one after a reading is a block late.
        begin = self._at - (_VORBIS_BLOCK if self._reached else 0)
        if self._at >= self.samples - _VORBIS_END:
            begin = min(begin, self.samples - self._vorbis_end)
        return max(0, begin)

    @cached_property
    def _vorbis_end(self) -> int:
        """How many samples at the end are decoded from before them."""
        opened: Any = self._source
        if isinstance(opened, str | bytes):
            with Path(os.fsdecode(opened)).open("rb") as file:
                last_page = last_page_samples(file)
        else:
            place = opened.tell()
            last_page = last_page_samples(opened)
            opened.seek(place)
        return _VORBIS_END if last_page is None else last_page + _VORBIS_BLOCK

    def go_to(self, start: int) -> None:
        """Let sample `start` be the next; formats that cannot seek are read up to there, from their start."""
        if self.can_seek:
            self._at = start
            return
        while start and (read := len(self.read(min(start, _PASSED_SAMPLES)))):
            start -= read


@contextmanager
def decoding(path: AudioSource, stream: Stream | None) -> Iterator[Decoder]:
    """Open a stream of a file, or with None the file as it is.

    Raises: AudioError, whatever goes wrong inside: a decoder that fails must not end the work on other files.
    """
    try:
        if stream is not None:
            with path.open("rb") as file, Decoder(StreamFile(file, stream), chatters=True) as decoder:
                yield decoder
        else:
            chatters = path.suffix.lower() in _MPEG_SUFFIXES
            if isinstance(path, AudioBytes):
                chatters = chatters or path.data[:1] == b"\xff" or path.data[:3] == b"ID3"
            whole = path.open() if isinstance(path, AudioBytes) else system_path(path)
            with Decoder(whole, chatters=chatters) as decoder:
                yield decoder
    except AudioError:
        raise
    except Exception as error:
        raise not_audio(path, error) from error
