"""Audio files as numpy arrays: WAV, FLAC, OGG and MP3 through libsndfile, with one clear line on bad input.

Free of torch, so that a corpus can be scanned without it. libsndfile reads on without a word when a WAV or
OGG file was cut off; both are recognised here by what their containers announce.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from wavslm_core.errors import AudioError

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})
LOUDEST_SENSIBLE = 8.0
"""Peaks above this are not overshoot but integers stored as floats."""
PROOF_SAMPLES = 1 << 22
"""Samples that are tried at once: bounds memory, however long a file is."""
_OGG_TAIL_BYTES = 65_536 + 282
"""A whole OGG page at its largest: the last page starts within this many bytes of the end."""


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says."""

    samples: int
    sample_rate_hz: int
    channels: int
    holds_floats: bool = False
    """Only then can values be NaN, infinite or far beyond ±1."""


@dataclass(frozen=True)
class AudioBytes:
    """A whole audio file in memory, such as a member of a tar; `name` is for messages."""

    name: str
    data: bytes

    def __str__(self) -> str:
        return self.name

    def open(self, _mode: str = "rb") -> BytesIO:
        return BytesIO(self.data)


AudioSource = Path | AudioBytes
_LIBSNDFILE_SYSTEM_ERROR = 2
"""Its code for what the operating system refused."""


def audio_info(path: AudioSource) -> AudioInfo:
    """Read the header of an audio file.

    Raises: AudioError when the file is missing, empty, not audio, cut off, or holds no samples.
    """
    import soundfile

    try:
        _check_present(path)
        info = soundfile.info(_opened(path))
        _check_whole(path, info.format)
    except (soundfile.SoundFileError, TypeError, OSError) as error:
        raise _not_audio(path, error) from error
    if info.frames <= 0:
        raise AudioError(f"{path} holds no samples; leave it out or record it again")
    holds_floats = info.subtype in {"FLOAT", "DOUBLE"}
    return AudioInfo(int(info.frames), int(info.samplerate), int(info.channels), holds_floats)


def proven_info(path: AudioSource) -> AudioInfo:
    """Return `audio_info` of a file whose samples were tried too, so that training will not trip over it.

    Of floats every one is read, of other files the last: compressed ones that were cut off do not reach it.
    Raises: AudioError as `read_samples`.
    """
    info = audio_info(path)
    step = PROOF_SAMPLES if info.holds_floats else 1
    first = 0 if info.holds_floats else info.samples - 1
    for start in range(first, info.samples, step):
        read_samples(path, start=start, samples=min(step, info.samples - start))
    return info


def read_samples(
    path: AudioSource, *, start: int = 0, samples: int | None = None
) -> tuple[npt.NDArray[np.float32], int]:
    """Return the mono waveform (S,) in [-1, 1] and its sampling rate in Hz; channels are averaged.

    `start` and `samples` select a part in samples of the file's own rate; only that part is decoded where
    the format can seek. Raises: AudioError as `audio_info`, and for parts beyond the end and values that
    are not audio.
    """
    import soundfile

    info = audio_info(path)
    wanted = info.samples - start if samples is None else samples
    if start < 0 or wanted <= 0 or start + wanted > info.samples:
        raise AudioError(
            f"{path} has {info.samples} samples, but {wanted} from sample {start} on were asked for; "
            "ask for a part that lies inside the file"
        )
    try:
        frames_SC, sample_rate_hz = soundfile.read(
            _opened(path), start=start, frames=wanted, dtype="float32", always_2d=True
        )
    except (soundfile.SoundFileError, OSError) as error:
        raise _not_audio(path, error) from error
    if len(frames_SC) < wanted:
        raise _cut_off(path, f"its header says {start + wanted} samples, {start + len(frames_SC)} are there")
    waveform_S = _mono(frames_SC)
    check_finite(waveform_S, source=str(path))
    peak = float(np.abs(waveform_S).max())
    if peak > LOUDEST_SENSIBLE:
        raise AudioError(f"{path} reaches {peak:.4g}, audio lies within ±1; divide it by its full scale")
    return np.clip(waveform_S, -1.0, 1.0), int(sample_rate_hz)


def sample_blocks(path: AudioSource, *, samples: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the whole mono waveform in blocks of that many samples; the last is shorter.

    Memory does not grow with the file. Raises: AudioError as `audio_info`, and when samples are missing.
    """
    import soundfile

    info = audio_info(path)
    done = 0
    try:
        with soundfile.SoundFile(_opened(path)) as file:
            while len(frames_SC := file.read(samples, dtype="float32", always_2d=True)):
                done += len(frames_SC)
                yield _mono(frames_SC)
    except (soundfile.SoundFileError, OSError) as error:
        raise _not_audio(path, error) from error
    if done < info.samples:
        raise _cut_off(path, f"its header says {info.samples} samples, {done} are there")


def _mono(frames_SC: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return frames_SC[:, 0] if frames_SC.shape[1] == 1 else frames_SC.mean(axis=1, dtype=np.float32)


def _opened(source: AudioSource) -> str | bytes | BytesIO:
    """Return what libsndfile opens."""
    return source.open() if isinstance(source, AudioBytes) else system_path(source)


def system_path(path: Path) -> str | bytes:
    """Return a path for libsndfile; as bytes where names need not be UTF-8, which str could not carry."""
    return str(path) if os.name == "nt" else os.fsencode(path)


def printable(path: Path | str) -> str:
    """Return a path as text that any UTF-8 file can hold: what is not UTF-8 in its name is escaped."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def check_finite(waveform_S: npt.NDArray[np.float32], *, source: str) -> None:
    """Raise AudioError when a waveform holds NaN or infinite values."""
    finite = np.isfinite(waveform_S)
    if not finite.all():
        first, count = int(np.argmin(finite)), int((~finite).sum())
        raise AudioError(
            f"{source} holds {count} NaN or infinite samples, the first at sample {first}; "
            "repair it or leave it out"
        )


def _check_present(path: AudioSource) -> None:
    if isinstance(path, AudioBytes):
        if not path.data:
            raise AudioError(f"{path} is empty (0 bytes); copy it again or leave it out")
        return
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise AudioError(f"{path} does not exist; check the path") from error
    if not path.is_file():
        raise AudioError(f"{path} is not a file; name one audio file (WAV, FLAC, OGG or MP3)")
    if status.st_size == 0:
        raise AudioError(f"{path} is empty (0 bytes); copy it again or leave it out")


def _not_audio(path: AudioSource, error: Exception) -> AudioError:
    reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
    return AudioError(
        f"{path} cannot be read as audio ({reason}); allowed are whole WAV, FLAC, OGG and MP3 files"
    )


def systems_fault(error: AudioError) -> bool:
    """Return whether the system failed to give the file's bytes, which says nothing about the audio."""
    cause = error.__cause__
    return isinstance(cause, OSError) or getattr(cause, "code", None) == _LIBSNDFILE_SYSTEM_ERROR


def _cut_off(path: AudioSource, detail: str) -> AudioError:
    return AudioError(f"{path} is cut off: {detail}; copy it again or leave it out")


def _check_whole(path: AudioSource, container: str) -> None:
    """Raise AudioError when a WAV or OGG file ends before its container says it does."""
    with path.open("rb") as file:
        if container in {"WAV", "WAVEX"}:
            missing = _missing_wav_bytes(file)
            if missing > 0:
                raise _cut_off(path, f"{missing} bytes of its samples are missing")
        elif container == "OGG" and not _ogg_ends(file):
            raise _cut_off(path, "its last page does not end the stream")


def _missing_wav_bytes(file: BinaryIO) -> int:
    """Return by how many bytes the `data` chunk of a RIFF file is longer than the file."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    byte_order = "little" if file.read(12)[:4] == b"RIFF" else "big"
    while len(header := file.read(8)) == 8:
        length = int.from_bytes(header[4:], byte_order)  # type: ignore[arg-type]
        if header[:4] == b"data":
            # Programs that write to a pipe cannot know the length and announce the largest one.
            unknown = length >= 0x7FFFFFFF - 0xFFFF
            return 0 if unknown else file.tell() + length - size
        file.seek(length + length % 2, os.SEEK_CUR)
    return 0


def _ogg_ends(file: BinaryIO) -> bool:
    """Return whether the last page of an OGG file carries the end-of-stream flag."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _OGG_TAIL_BYTES))
    tail = file.read()
    page = tail.rfind(b"OggS")
    return page >= 0 and len(tail) > page + 5 and bool(tail[page + 5] & 0x04)
