"""The streams of an audio file, found out and read as one."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wavslm_core.data.audio_source import AudioSource, check_present, cut_off, not_audio
from wavslm_core.data.containers.layout import layout_of
from wavslm_core.data.containers.stream import Stream
from wavslm_core.data.decoder import decoding
from wavslm_core.errors import AudioError

PROOF_SAMPLES = 1 << 22
"""Samples that are tried at once: bounds memory, however long a file is."""
UNKNOWN_SAMPLES = 1 << 60
"""From here on libsndfile means that it does not know."""
LISTENED_PLACES, LISTENED_SAMPLES = 8, 2048
"""How many stretches of a file with several channels are compared, and how long each is."""
CANCELLED = 0.2
"""Channels cancel each other when their mean has less than this part of the power that unrelated ones would
leave, which is that of one channel by their number."""

READER_VERSION = 2
"""Rises when other samples are read from the same bytes of a file that is not plain."""
MENDER_VERSION = 1
"""The same for those whose bytes are mended before libsndfile reads them."""
KNOWN_LAYOUTS = 128
"""Files whose streams are remembered."""

Streams = Sequence[tuple[Stream | None, int]]
"""The streams of a file, None for one that is the file as it is, each with its samples."""


@dataclass(frozen=True)
class AudioInfo:
    """What an audio file holds."""

    samples: int
    sample_rate_hz: int
    channels: int
    holds_floats: bool = False
    """Only then can values be NaN, infinite or far beyond ±1."""
    channel: int | None = None
    """The channel that is read; None: the mean of all. One alone is read where they cancel each other out."""
    plain: bool = True
    """The header is true, and no sample depends on where decoding begins. What is read of other files is as
    `READER_VERSION` says."""
    mended: bool = False
    """libsndfile would read other samples of the file as it is than of its streams, such as after damage."""


def looked_at(path: AudioSource) -> tuple[AudioInfo, Streams, str]:
    """Return what a file holds, in which streams, and what is odd about it. Raises: AudioError."""
    check_present(path)
    try:
        with path.open("rb") as opened:
            layout = layout_of(opened)
    except Exception as error:
        raise not_audio(path, error) from error
    if layout.cut:
        raise cut_off(path, layout.cut)
    found: list[tuple[Stream | None, AudioInfo]]
    found = [(stream, _header(path, stream)) for stream in layout.streams] or [(None, _header(path, None))]
    info = replace(
        found[0][1],
        samples=sum(header.samples for _, header in found),
        plain=found[0][1].plain and not layout.streams,
        mended=bool(layout.streams) and not layout.alike,
    )
    rates = sorted({header.sample_rate_hz for _, header in found})
    if len(rates) > 1:
        raise AudioError(
            f"{path} is joined from parts at {' and '.join(map(str, rates))} Hz; take it apart, or convert it"
        )
    if info.samples <= 0:
        raise AudioError(f"{path} holds no samples; leave it out or record it again")
    streams = [(stream, header.samples) for stream, header in found if header.samples]
    return info, streams, layout.remark


def streams_of(path: AudioSource, known: AudioInfo) -> Streams:
    """Return the streams of a file that was scanned. Raises: AudioError, also when it is another file now."""
    found, streams = _remembered(path)
    for what, then, now in (
        ("samples", known.samples, found.samples),
        ("Hz", known.sample_rate_hz, found.sample_rate_hz),
        ("channels", known.channels, found.channels),
    ):
        if then != now:
            raise AudioError(
                f"{path} has {now} {what}, but had {then} when it was scanned: open the corpus again with "
                "`data.rescan: true`"
            )
    return streams


def _remembered(path: AudioSource) -> tuple[AudioInfo, Streams]:
    """Return what a file holds: crops of one file need not look at all of it each time."""
    if isinstance(path, Path):
        with suppress(OSError):
            status = path.stat()
            return _remembered_file(path, status.st_size, status.st_mtime_ns)
    return looked_at(path)[:2]


@lru_cache(maxsize=KNOWN_LAYOUTS)
def _remembered_file(path: Path, _size: int, _mtime_ns: int) -> tuple[AudioInfo, Streams]:
    return looked_at(path)[:2]


def _header(path: AudioSource, stream: Stream | None) -> AudioInfo:
    """Return what libsndfile says of a stream. Raises: AudioError."""
    with decoding(path, stream) as file:
        samples = file.samples
        if stream is not None and stream.claimed:
            samples = min(samples, stream.samples or 0)
        elif samples >= UNKNOWN_SAMPLES:
            samples = 0
            while block := len(file.read(PROOF_SAMPLES)):
                samples += block
        return AudioInfo(
            samples, file.sample_rate_hz, file.channels, file.holds_floats, plain=not file.compressed
        )


def as_it_is(path: AudioSource, info: AudioInfo, start: int, samples: int) -> npt.NDArray[np.float32] | None:
    """Return a part (S,) where libsndfile reads it by itself, else None.

    Raises: AudioError when there is no such file.
    """
    check_present(path)
    if info.mended:
        return None
    try:
        with decoding(path, None) as file:
            if not start + samples <= file.samples < UNKNOWN_SAMPLES:
                return None
            if (file.sample_rate_hz, file.channels) != (info.sample_rate_hz, info.channels):
                return None
            file.go_to(start)
            frames_SC = file.read(samples)
    except AudioError:
        return None
    return mono(frames_SC, info.channel) if len(frames_SC) == samples else None


def waveform(
    path: AudioSource, info: AudioInfo, streams: Streams, start: int, samples: int
) -> npt.NDArray[np.float32]:
    """Return a part (S,) that lies inside the file, as it is. Raises: AudioError."""
    parts = []
    for stream, length in streams:
        taken = max(0, min(samples, length - start))
        if taken:
            with decoding(path, stream) as file:
                file.go_to(start)
                frames_SC = file.read(taken)
            if len(frames_SC) < taken:
                there = start + len(frames_SC)
                raise cut_off(path, f"its header says {length} samples, {there} are there")
            parts.append(mono(frames_SC, info.channel))
        start, samples = max(0, start - length), samples - taken
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def mono(frames_SC: npt.NDArray[np.float32], channel: int | None) -> npt.NDArray[np.float32]:
    if channel is not None or frames_SC.shape[1] == 1:
        return np.ascontiguousarray(frames_SC[:, min(channel or 0, frames_SC.shape[1] - 1)])
    return frames_SC.mean(axis=1, dtype=np.float32)


def listened(path: AudioSource, info: AudioInfo, streams: Streams) -> AudioInfo:
    """Return `info` with one loud channel where all together cancel each other out, as left = -right does.

    The same for the whole file and for any part of it: stretches all over the file are listened to. Raises:
    AudioError.
    """
    if info.channels == 1:
        return info
    power_C, mixed = np.zeros(info.channels), 0.0
    for stream, length in streams:
        with decoding(path, stream) as file:
            if file.channels != info.channels:
                return info
            places = LISTENED_PLACES if file.can_seek else 1
            for place in range(places):
                file.go_to(place * length // places)
                frames_SC = file.read(LISTENED_SAMPLES).astype(np.float64)
                power_C += np.square(frames_SC).sum(axis=0)
                mixed += float(np.square(frames_SC.mean(axis=1)).sum())
    cancelled = mixed < CANCELLED / info.channels * power_C.mean()
    if not cancelled:
        return info
    # The first that is not much quieter than the loudest: of equal ones rounding must not choose.
    return replace(info, channel=int((power_C >= power_C.max() / 2).argmax()))
