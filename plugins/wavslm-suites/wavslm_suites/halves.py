"""Halves of recordings: pieces of speech that begin in a pause, equally loud, with soft ends."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wavslm_core.plugin import stretches_of_voice

Floats = npt.NDArray[np.float32]
Samples = npt.NDArray[np.int16]
PAUSE_SECONDS = 0.2
"""A shorter one is part of the speech."""
LONGEST_PAUSE_SECONDS = 0.8
"""No piece goes on over a longer one."""
ROOM_SECONDS = 0.2
"""So much of the pauses around it a piece keeps at most; two make a pause between sentences."""
LEAST_ROOM_SECONDS = 0.04
"""Where there is less before the first or after the last sound of an utterance, it was cut within speech."""
FADE_SECONDS = 0.01
"""At both ends of a piece, by half a period of a cosine."""
LEVEL_DBFS = -23.0
"""Root mean square of a half, pauses included; all of an item lie lower where a peak would be too high."""
HIGHEST_PEAK = 0.95
BACKGROUND_SECONDS = 0.02
"""Of each level that is looked at for the background."""
QUIETEST = 10
"""Percentile of the levels that is taken for it."""


@dataclass(frozen=True, order=True)
class Piece:
    """Some of an utterance's stretches of voice, one after another; it begins in a pause."""

    utterance: int
    voice: tuple[int, int]
    """The first stretch of it, and the first one after it."""
    start: int
    end: int
    """Samples."""
    ends_in_pause: bool
    """So that another voice can follow. Otherwise it was cut within speech."""

    @property
    def samples(self) -> int:
        return self.end - self.start


def pieces_of(
    waveform_S: Floats, *, utterance: int, sample_rate_hz: int, seconds: tuple[float, float]
) -> list[Piece]:
    """Return the pieces of an utterance, one after another, as long as they can be within `seconds`.

    Only in pauses they overlap, by no more than `ROOM_SECONDS`.
    """
    shortest, longest, room, least_room, longest_pause = (
        round(of * sample_rate_hz)
        for of in (*seconds, ROOM_SECONDS, LEAST_ROOM_SECONDS, LONGEST_PAUSE_SECONDS)
    )
    voice = stretches_of_voice(waveform_S, sample_rate_hz=sample_rate_hz, pause_seconds=PAUSE_SECONDS)
    ends = [0, *(end for _, end in voice)]
    starts = [*(start for start, _ in voice), len(waveform_S)]
    pauses = [start - end for start, end in zip(starts, ends, strict=True)]
    long_pauses = [place for place, pause in enumerate(pauses) if pause > longest_pause and place]
    pieces: list[Piece] = []
    at = 0
    while at < len(voice):
        start = starts[at] - min(room, pauses[at])
        reach = next((place for place in long_pauses if place > at), len(voice))
        # By the stretch that comes after: where the piece ends.
        lasts = {after: ends[after] + min(room, pauses[after]) for after in range(at + 1, reach + 1)}
        fitting = [
            after
            for after, last in lasts.items()
            if shortest <= last - start <= longest and pauses[after] >= least_room
        ]
        after = at + 1
        if pauses[at] >= least_room and fitting:
            after = fitting[-1]
            pieces.append(Piece(utterance, (at, after), start, lasts[after], True))
        elif pauses[at] >= least_room and lasts[reach] - start > longest:
            last = start + longest
            after = next((place for place in range(at + 1, len(voice)) if starts[place] >= last), len(voice))
            pieces.append(Piece(utterance, (at, after), start, last, False))
        at = after
    return pieces


def levelled(halves: Sequence[Floats], *, sample_rate_hz: int) -> list[Samples]:
    """Return halves (S,) faded at both ends, all at one level: 16 bits, none of which are clipped."""
    faded = [_faded(half.astype(np.float64), round(FADE_SECONDS * sample_rate_hz)) for half in halves]
    rms = [float(np.sqrt(np.mean(half**2))) for half in faded]
    crests = [float(np.abs(half).max()) / level for half, level in zip(faded, rms, strict=True)]
    level = min(10 ** (LEVEL_DBFS / 20), HIGHEST_PEAK / max(crests))
    return [
        np.round(half * (32767 * level / own)).astype(np.int16) for half, own in zip(faded, rms, strict=True)
    ]


def _faded(half_S: npt.NDArray[np.float64], samples: int) -> npt.NDArray[np.float64]:
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(samples) + 0.5) / samples)
    half_S[:samples] *= ramp
    half_S[-samples:] *= ramp[::-1]
    return half_S


def background_distance_db(samples: Samples, split: int, *, sample_rate_hz: int) -> float:
    """Return how far the levels of what is quietest before and after a place are apart."""
    hop = round(BACKGROUND_SECONDS * sample_rate_hz)
    before, after = (
        np.percentile(
            np.mean((part[: len(part) // hop * hop] / 32768.0).reshape(-1, hop) ** 2, axis=1), QUIETEST
        )
        for part in (samples[:split], samples[split:])
    )
    return float(abs(10 * np.log10((before + 1e-10) / (after + 1e-10))))
