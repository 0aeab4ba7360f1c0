"""How libsndfile opens and reads audio."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import IO, TYPE_CHECKING

from wavslm_core.data.audio_source import AudioBytes, AudioSource, not_audio, system_path
from wavslm_core.data.chatter import without_chatter
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
_VORBIS_END = 1 << 18
"""Samples at the end of a Vorbis stream that are decoded from before them: seeks into the last page miss."""


class Decoder:
    """An open audio file: what is used of `soundfile.SoundFile`, without the chatter of its MPEG decoder."""

    def __init__(self, file: str | bytes | IO[bytes] | StreamFile, *, chatters: bool) -> None:
        """`chatters`: the file may be MPEG audio."""
        from soundfile import SoundFile

        with without_chatter() if chatters else nullcontext():
            self._file = SoundFile(file)
        self._chatters = self._file.format == "MP3"
        self.samples = int(self._file.frames)
        """What libsndfile takes for the length."""
        self.sample_rate_hz = int(self._file.samplerate)
        self.channels = int(self._file.channels)
        self.holds_floats = self._file.subtype in {"FLOAT", "DOUBLE"}
        self.can_seek = bool(self._file.seekable())
        self._subtype = self._file.subtype
        self._at = self._reached = 0
        """The next sample to be read, and the one that libsndfile is at."""

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, samples: int) -> npt.NDArray[np.float32]:
        """Return the next samples of all channels (S, C), fewer at the end; the same wherever one starts."""
        begin = self._begin() if self.can_seek else self._at
        with without_chatter() if self._chatters else nullcontext():
            # `soundfile` itself seeks after each reading.
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
        if self._subtype == "VORBIS":
            return min(self._at, max(0, self.samples - _VORBIS_END))
        return max(0, self._at - _RUN_UP.get(self._subtype, 0))

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
