"""Audio files as numpy arrays, through libsndfile, with one clear line on bad input. Free of torch, so that a
corpus can be scanned without it.

Headers are hints: what `data.containers` finds in a file is what is read. Finding it costs a look at every
frame of an MP3 and every page of an Ogg file, so a corpus remembers what its scan found (`AudioInfo`) and
hands it to the reading functions, which then look again only where libsndfile says something else.
"""

import logging
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from wavslm_core.data.audio_source import (
    AUDIO_SUFFIXES,
    READABLE_FORMATS,
    AudioBytes,
    AudioSource,
    cut_off,
    printable,
    systems_fault,
)
from wavslm_core.data.audio_streams import (
    MENDER_VERSION,
    PROOF_SAMPLES,
    READER_VERSION,
    AudioInfo,
    Streams,
    as_it_is,
    listened,
    looked_at,
    mono,
    streams_of,
    waveform,
)
from wavslm_core.data.decoder import decoding
from wavslm_core.errors import AudioError

__all__ = [
    "AUDIO_SUFFIXES",
    "MENDER_VERSION",
    "READABLE_FORMATS",
    "READER_VERSION",
    "AudioBytes",
    "AudioInfo",
    "AudioSource",
    "audio_info",
    "check_finite",
    "printable",
    "proven_info",
    "read_samples",
    "sample_blocks",
    "systems_fault",
]

logger = logging.getLogger(__name__)

LOUDEST_SENSIBLE = 8.0
"""Peaks above this are not overshoot but integers stored as floats."""


def audio_info(path: AudioSource) -> AudioInfo:
    """Return what an audio file holds, found by decoding next to nothing of it.

    Raises: AudioError when the file is missing, empty, not audio, cut off, or holds no samples.
    """
    info, streams, _ = looked_at(path)
    return listened(path, info, streams)


def proven_info(path: AudioSource) -> AudioInfo:
    """Return `audio_info` of a file whose samples were tried too, so that training will not trip over it.

    Of floats every one is read, of other files the last of each stream: compressed ones that were cut off do
    not reach it. What is odd about a file that can be read all the same is logged. Raises: AudioError as
    `read_samples`.
    """
    info, streams, remark = looked_at(path)
    info = listened(path, info, streams)
    if info.holds_floats:
        for start in range(0, info.samples, PROOF_SAMPLES):
            read_samples(path, start=start, samples=min(PROOF_SAMPLES, info.samples - start), info=info)
    else:
        for stream, samples in streams:
            with decoding(path, stream) as file:
                if not file.reaches(samples - 1):
                    raise cut_off(path, f"its header says {samples} samples, the last is not there")
    _warn(path, info, remark)
    return info


def read_samples(
    path: AudioSource, *, start: int = 0, samples: int | None = None, info: AudioInfo | None = None
) -> tuple[npt.NDArray[np.float32], int]:
    """Return the mono waveform (S,) in [-1, 1] and its sampling rate in Hz; channels are averaged.

    `start` and `samples` select a part in samples of the file's own rate; only that part is decoded where
    the format can seek. `info` is what a scan found out about the file. Raises: AudioError as `audio_info`,
    and for parts beyond the end and values that are not audio.
    """
    streams: Streams | None = None
    if info is None:
        info, streams, remark = looked_at(path)
        info = listened(path, info, streams)
        _warn(path, info, remark)
    wanted = info.samples - start if samples is None else samples
    if start < 0 or wanted <= 0 or start + wanted > info.samples:
        raise AudioError(
            f"{path} has {info.samples} samples, but {wanted} from sample {start} on were asked for; "
            "ask for a part that lies inside the file"
        )
    waveform_S = as_it_is(path, info, start, wanted) if streams is None else None
    if waveform_S is None:
        streams = streams or streams_of(path, info)
        waveform_S = waveform(path, info, streams, start, wanted)
    check_finite(waveform_S, source=str(path))
    peak = float(np.abs(waveform_S).max())
    if peak > LOUDEST_SENSIBLE:
        raise AudioError(f"{path} reaches {peak:.4g}, audio lies within ±1; divide it by its full scale")
    return np.clip(waveform_S, -1.0, 1.0), info.sample_rate_hz


def sample_blocks(
    path: AudioSource, *, samples: int, info: AudioInfo | None = None
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the whole mono waveform in blocks of that many samples; the last is shorter.

    Memory does not grow with the file. Raises: AudioError as `audio_info`, and when samples are missing.
    """
    if info is None:
        info, streams, _ = looked_at(path)
        info = listened(path, info, streams)
    else:
        streams = streams_of(path, info)
    block_S = np.zeros(0, np.float32)
    for stream, length in streams:
        done = 0
        with decoding(path, stream) as file:
            while done < length:
                wanted = min(samples - len(block_S), length - done)
                frames_SC = file.read(wanted)
                done += len(frames_SC)
                if len(frames_SC) < wanted:
                    raise cut_off(path, f"{length} samples are announced, {done} are there")
                block_S = np.concatenate([block_S, mono(frames_SC, info.channel)])
                if len(block_S) == samples:
                    yield block_S
                    block_S = block_S[:0]
    if len(block_S):
        yield block_S


def check_finite(waveform_S: npt.NDArray[np.float32], *, source: str) -> None:
    """Raise AudioError when a waveform holds NaN or infinite values."""
    finite = np.isfinite(waveform_S)
    if not finite.all():
        first, count = int(np.argmin(finite)), int((~finite).sum())
        raise AudioError(
            f"{source} holds {count} NaN or infinite samples, the first at sample {first}; "
            "repair it or leave it out"
        )


def _warn(path: AudioSource, info: AudioInfo, remark: str) -> None:
    """Say what is odd about a file that can be read all the same."""
    if remark:
        logger.warning("%s: %s", path, remark)
    if info.channel is not None:
        logger.warning("%s: its channels cancel each other out; channel %d is read", path, info.channel + 1)
