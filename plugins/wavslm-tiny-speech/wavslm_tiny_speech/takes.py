"""Pairs of recordings before they are files: spoken together, or put together from the same pieces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wavslm_tiny_speech.espeak import Espeak
from wavslm_tiny_speech.recording import Floats, at_rate, gain, level, sixteen_bits, sounding, speak, trim
from wavslm_tiny_speech.voices import Voice

Samples = npt.NDArray[np.int16]
PAUSE_SECONDS = 0.22
"""Between two pieces at least, besides the margins of both: as long as espeak-ng pauses between sentences."""
DIFFERENT_SECONDS = 0.1
"""Before their ends at least, two recordings of a pair begin to differ."""
GRID_SECONDS = 0.08
"""Second pieces begin at a multiple, so that a codec frames one alike wherever it stands."""


@dataclass(frozen=True, eq=False)
class Take:
    """A pair: its right and its wrong recording, (S,) each, alike up to `split`."""

    right: Samples
    wrong: Samples
    split: int
    texts: tuple[str, str]
    groups: Mapping[str, str]


@dataclass(frozen=True)
class Piece:
    """A part of a recording, and what it says."""

    samples: Samples
    text: str


@dataclass(frozen=True)
class Studio:
    """Where pairs are spoken."""

    espeak: Espeak
    sample_rate_hz: int

    def say(self, text: str, voice: Voice, *, more: bool = False) -> Floats:
        """Return speech (S,) at the level of the corpus; `more`: with a pause after it."""
        spoken = at_rate(trim(speak(self.espeak, text, voice)), self.sample_rate_hz)
        if not more:
            return level(spoken)
        grid = round(GRID_SECONDS * self.sample_rate_hz)
        least = len(spoken) + round(PAUSE_SECONDS * self.sample_rate_hz)
        return level(np.pad(spoken, (0, -(-least // grid) * grid - len(spoken))))

    def piece(self, text: str, voice: Voice, *, more: bool = False) -> Piece:
        return Piece(sixteen_bits(self.say(text, voice, more=more)), text)

    def both(self, right: str, wrong: str, voice: Voice, groups: Mapping[str, str]) -> Take | None:
        """Return two texts that begin alike, spoken with one gain; None where they sound the same."""
        spoken = [speak(self.espeak, text, voice) for text in (right, wrong)]
        places = [sounding(waveform) for waveform in spoken]
        start = min(first for first, _ in places)
        cut = [
            at_rate(waveform[start:end], self.sample_rate_hz)
            for waveform, (_, end) in zip(spoken, places, strict=True)
        ]
        scale = np.float32(gain(np.concatenate(cut)))
        samples = [sixteen_bits(waveform * scale) for waveform in cut]
        shorter = min(map(len, samples))
        differing = np.flatnonzero(samples[0][:shorter] != samples[1][:shorter])
        if not len(differing) or shorter - differing[0] <= DIFFERENT_SECONDS * self.sample_rate_hz:
            return None
        return Take(samples[0], samples[1], int(differing[0]), (right, wrong), groups)


def joined(first: Piece, right: Piece, wrong: Piece, groups: Mapping[str, str]) -> Take:
    """Return a beginning with its right and its wrong end."""
    return Take(
        np.concatenate([first.samples, right.samples]),
        np.concatenate([first.samples, wrong.samples]),
        len(first.samples),
        (f"{first.text} {right.text}", f"{first.text} {wrong.text}"),
        groups,
    )


def crossed(
    firsts: tuple[Piece, Piece],
    seconds: tuple[Piece, Piece],
    groups: tuple[Mapping[str, str], Mapping[str, str]],
) -> tuple[Take, ...]:
    """Return two pairs in which each second piece is right once and wrong once."""
    (one, other), (of_one, of_other) = firsts, seconds
    return joined(one, of_one, of_other, groups[0]), joined(other, of_other, of_one, groups[1])


def all_told(takes: Iterable[Take | None]) -> list[Take]:
    """Return pairs that make up for each other, or none of them where one cannot be told apart."""
    found = list(takes)
    return [take for take in found if take is not None] if all(take is not None for take in found) else []
