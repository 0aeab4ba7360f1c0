"""From a recording to its utterances, as a corpus's `cut:` block says: at equal distances, or in pauses.

Pauses are found by energy: the level of every 20 ms is compared with a threshold between the recording's own
floor (its 5th percentile) and its loudest speech (the 99th). That finds the pauses of recordings with one
voice and steady noise, which is what cutting needs; it does not tell speech from music. Nothing is random,
nothing is downloaded.
"""

import numpy as np
import numpy.typing as npt

from wavslm_core.data.audio_files import AudioInfo, AudioSource, check_finite, sample_blocks
from wavslm_core.data.corpora import CutConfig
from wavslm_core.errors import AudioError

HOP_SECONDS = 0.02
_FLOOR, _LOUD = 5, 99
"""Percentiles of the level."""
_LOWEST_FLOOR_DB = -80.0
"""Digital silence between words must not draw the threshold down into the noise."""
_THRESHOLD = 0.35
"""Where the threshold lies between floor and loud."""
_LEAST_RANGE_DB = 9.0
"""A recording whose levels differ less has no pauses: all of it is voice."""
_SILENCE_DB = -65.0
"""Below full scale. Nothing below is voice."""

Pieces = list[tuple[int, int]]
"""(start, samples) of each utterance."""


def pieces_of(source: AudioSource, info: AudioInfo, cut: CutConfig) -> tuple[tuple[int, int], ...]:
    """Return (start, samples) of a recording's utterances, in order, none overlapping.

    Raises: AudioError when there is none.
    """
    if cut.by == "fixed":
        pieces = fixed_pieces(info.samples, sample_rate_hz=info.sample_rate_hz, cut=cut)
    else:
        levels_N = frame_levels(source, info=info)
        pieces = cut_at_pauses(levels_N, samples=info.samples, sample_rate_hz=info.sample_rate_hz, cut=cut)
    if not pieces:
        seconds = info.samples / info.sample_rate_hz
        what = "is" if cut.by == "fixed" else "has no stretch of voice that is long enough: it is"
        raise AudioError(
            f"{source} {what} {seconds:.2f} s long, cut.shortest_seconds is {cut.shortest_seconds:g}"
        )
    return tuple(pieces)


def fixed_pieces(samples: int, *, sample_rate_hz: int, cut: CutConfig) -> list[tuple[int, int]]:
    """Return pieces of `cut.seconds`; the rest at the end is one too when it is long enough."""
    length = max(1, int(cut.seconds * sample_rate_hz))
    shortest = max(1.0, cut.shortest_seconds * sample_rate_hz)
    pieces = [(start, min(length, samples - start)) for start in range(0, samples, length)]
    return [piece for piece in pieces if piece[1] >= shortest]


def frame_levels(source: AudioSource, *, info: AudioInfo) -> npt.NDArray[np.float32]:
    """Return the level in dB below full scale of every whole 20 ms of a file, (N,).

    The file is decoded block by block. Raises: AudioError as `read_samples`.
    """
    hop = hop_samples(info.sample_rate_hz)
    levels = []
    for block_S in sample_blocks(source, samples=hop * 8192, info=info):
        check_finite(block_S, source=str(source))
        levels.append(_levels(block_S, hop))
    return np.concatenate(levels).astype(np.float32) if levels else np.zeros(0, np.float32)


def stretches_of_voice(
    waveform_S: npt.NDArray[np.float32], *, sample_rate_hz: int, pause_seconds: float
) -> Pieces:
    """Return (start, end) in samples of the stretches of voice in a waveform, in order.

    Pauses shorter than `pause_seconds` are bridged; what is quiet before and after is in no stretch.
    """
    hop = hop_samples(sample_rate_hz)
    voiced_N = voiced(_levels(waveform_S, hop).astype(np.float32))
    runs = _runs(voiced_N, shortest_pause=max(1, round(pause_seconds / HOP_SECONDS)))
    return [(start * hop, end * hop) for start, end in runs]


def _levels(waveform_S: npt.NDArray[np.float32], hop: int) -> npt.NDArray[np.float32]:
    """Return the level in dB below full scale of every whole frame of a waveform, (N,)."""
    frames_NH = waveform_S[: len(waveform_S) // hop * hop].reshape(-1, hop)
    power_N = np.einsum("nh,nh->n", frames_NH, frames_NH) / hop
    levels_N: npt.NDArray[np.float32] = 10 * np.log10(np.maximum(power_N, 1e-12))
    return levels_N


def hop_samples(sample_rate_hz: int) -> int:
    return max(1, round(sample_rate_hz * HOP_SECONDS))


def voiced(levels_N: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Return which frames are voice, (N,)."""
    if not len(levels_N):
        return np.zeros(0, np.bool_)
    floor, loud = np.percentile(np.maximum(levels_N, _LOWEST_FLOOR_DB), (_FLOOR, _LOUD))
    threshold = _SILENCE_DB
    if loud - floor >= _LEAST_RANGE_DB:
        threshold = max(threshold, float(floor + _THRESHOLD * (loud - floor)))
    return levels_N >= threshold


def cut_at_pauses(
    levels_N: npt.NDArray[np.float32], *, samples: int, sample_rate_hz: int, cut: CutConfig
) -> Pieces:
    """Return the utterances of a recording: as much voice as fits into `cut.seconds`, cut in pauses.

    Where there is no pause within that time the quietest frame of its second half is taken.
    """
    hop = hop_samples(sample_rate_hz)
    margin = round(cut.margin_seconds * sample_rate_hz)
    longest = int(cut.seconds * sample_rate_hz)
    runs = _runs(voiced(levels_N), shortest_pause=max(1, round(cut.pause_seconds / HOP_SECONDS)))
    most_frames = max(1, (longest - 2 * margin) // hop)
    joined: list[list[int]] = []
    for start, end in runs:
        for piece in _split(start, end, levels_N, most_frames=most_frames):
            if joined and piece[1] - joined[-1][0] <= most_frames:
                joined[-1][1] = piece[1]
            else:
                joined.append(list(piece))
    pieces: Pieces = []
    end_before = 0
    for start, end in joined:
        # Margins never reach into the neighbour: no sample belongs to two utterances.
        first = max(end_before, start * hop - margin, 0)
        last = min(samples, end * hop + margin, first + longest)
        if last > first and last - first >= cut.shortest_seconds * sample_rate_hz:
            pieces.append((first, last - first))
        end_before = max(end_before, last)
    return pieces


def _runs(voiced_N: npt.NDArray[np.bool_], *, shortest_pause: int) -> Pieces:
    """Return (start, end) in frames of the stretches of voice; pauses that are too short are bridged."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], voiced_N, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return []
    far = starts[1:] - ends[:-1] >= shortest_pause
    starts = np.concatenate([starts[:1], starts[1:][far]])
    ends = np.concatenate([ends[:-1][far], ends[-1:]])
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def _split(start: int, end: int, levels_N: npt.NDArray[np.float32], *, most_frames: int) -> Pieces:
    """Return (start, end) of pieces of at most that many frames."""
    pieces: Pieces = []
    while end - start > most_frames:
        half = max(1, most_frames // 2)
        quietest = start + half + int(np.argmin(levels_N[start + half : start + most_frames + 1]))
        quietest = min(max(quietest, start + 1), start + most_frames)
        pieces.append((start, quietest))
        start = quietest
    return [*pieces, (start, end)]
