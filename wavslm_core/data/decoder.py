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

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, samples: int) -> npt.NDArray[np.float32]:
        """Return the next samples of all channels (S, C), fewer at the end."""
        with without_chatter() if self._chatters else nullcontext():
            frames_SC: npt.NDArray[np.float32] = self._file.read(samples, "float32", always_2d=True)
        return frames_SC

    def go_to(self, start: int) -> None:
        """Let sample `start` be the next; formats that cannot seek are read up to there, from their start."""
        if self.can_seek:
            with without_chatter() if self._chatters else nullcontext():
                self._file.seek(start)
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
