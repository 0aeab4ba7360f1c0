"""Audio as training hears it: with the effects that a recipe's `data.augment` asks for.

What happens to an item follows from its key alone, whatever was read before, and each effect draws for
itself: the gain stays what it is when noise is left out. It is drawn on the axis of time and then made at
every rate, so that what is heard at 16 kHz and what has to be given back at 24 kHz are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wavslm_core.parts.augment_config import (
    AugmentConfig,
    ChunkDropConfig,
    FrequencyDropConfig,
    GainConfig,
    NoiseConfig,
    OverlapConfig,
)

Wave = npt.NDArray[np.float32]
Other = Callable[[np.random.Generator, int], Sequence[Tensor]]
"""Draws another utterance and a stretch of so many units in it; returns it at every rate."""
ODD = (1, 3, 5, 9, 15, 25, 27, 45, 75, 81)
"""Times a power of two, these are lengths whose spectra are fast."""
SHORTEST = 64
"""Units of a spectrum, so that there is noise for a single sample, too."""
FLATTEST_HZ = 50.0
"""Below it, coloured noise is white: brown noise would be nothing but the sound of a slow drift."""


@dataclass(frozen=True)
class Axis:
    """The time that an item lasts, in the longest units that are whole samples at every rate."""

    rates: tuple[int, ...]
    """Hz."""
    units: int
    level: float
    """Root mean square of its speech, at the first rate: what levels are relative to."""

    @property
    def unit_samples(self) -> list[int]:
        """Samples of a unit at each rate."""
        return [rate // gcd(*self.rates) for rate in self.rates]

    @property
    def units_per_second(self) -> int:
        return gcd(*self.rates)

    @property
    def seconds(self) -> float:
        return self.units / self.units_per_second

    @property
    def padded_units(self) -> int:
        units = max(self.units, SHORTEST)
        return min(odd << (-(-units // odd) - 1).bit_length() for odd in ODD)

    @property
    def frequencies_hz(self) -> list[Wave]:
        """The bins of a spectrum of the padded item at each rate; those of the lower are the first of the
        higher."""
        spacing = np.float32(self.units_per_second / self.padded_units)
        return [
            np.arange(self.padded_units * samples // 2 + 1, dtype=np.float32) * spacing
            for samples in self.unit_samples
        ]


def augmented(
    config: AugmentConfig,
    clean: Sequence[Tensor],
    *,
    rates: Sequence[int],
    key: Sequence[int],
    other: Other,
) -> tuple[list[Tensor], list[Tensor]]:
    """Return an item (S,) at each rate as it is heard, and as it has to be given back.

    `key` are whole numbers from 0 on that no other item has; nothing else is random. What exceeds full scale
    by an effect is made as loud as fits, at all rates alike.
    """
    unit = [rate // gcd(*rates) for rate in rates]
    units = max(-(-len(wave_S) // samples) for wave_S, samples in zip(clean, unit, strict=True))
    kept: list[Wave] = [wave_S.numpy() for wave_S in clean]
    heard = [wave_S.copy() for wave_S in kept]
    axis = Axis(tuple(rates), units, _rms(kept[0]))
    happened, gain = False, 1.0
    for name, effect in config.effects.items():
        draw = np.random.default_rng([*key, _NUMBERS[name]])
        if draw.random() >= effect.probability:
            continue
        happened = True
        if isinstance(effect, GainConfig):
            gain = _amplitude(draw.uniform(*effect.gain_db))
        elif isinstance(effect, OverlapConfig):
            _overlap(heard, effect, axis, draw, other)
        else:
            _EFFECTS[name](heard, effect, axis, draw)
    if not happened:
        return list(clean), list(clean)
    target = heard if config.target == "same" else kept
    peak = gain * max(float(np.abs(wave_S).max(initial=0)) for wave_S in (*heard, *target))
    scale = np.float32(gain / max(peak, 1.0))
    given = [torch.from_numpy(wave_S * scale) for wave_S in heard]
    return given, given if target is heard else [torch.from_numpy(wave_S * scale) for wave_S in kept]


def _overlap(
    heard: list[Wave], effect: OverlapConfig, axis: Axis, draw: np.random.Generator, other: Other
) -> None:
    units = max(1, round(draw.uniform(*effect.share) * axis.units))
    start = int(draw.integers(axis.units - units + 1))
    ratio = _amplitude(draw.uniform(*effect.level_db))
    others = [wave_S.numpy() for wave_S in other(draw, units)]
    other_level = _rms(others[0])
    if not other_level:
        return
    scale = np.float32(ratio * axis.level / other_level)
    for wave_S, other_S, samples in zip(heard, others, axis.unit_samples, strict=True):
        stretch_S = wave_S[start * samples : start * samples + len(other_S)]
        stretch_S += scale * other_S[: len(stretch_S)]


def _noise(heard: list[Wave], effect: NoiseConfig, axis: Axis, draw: np.random.Generator) -> None:
    ratio = _amplitude(-draw.uniform(*effect.snr_db))
    slope = np.float32(-draw.uniform(*effect.colour) / 2)
    frequencies = axis.frequencies_hz
    bins = max(map(len, frequencies))
    spectrum_F = draw.standard_normal(2 * bins, dtype=np.float32).view(np.complex64)
    noises: list[Wave] = []
    for wave_S, frequencies_F, samples in zip(heard, frequencies, axis.unit_samples, strict=True):
        size = axis.padded_units * samples
        shaped_F = spectrum_F[: len(frequencies_F)] * np.maximum(frequencies_F, FLATTEST_HZ) ** slope
        shaped_F[0] = 0
        # As loud at every rate, whatever the number of samples.
        noises.append(_inverse(shaped_F, size)[: len(wave_S)] * np.float32(size))
    scale = np.float32(ratio * axis.level / _rms(noises[0]))
    for wave_S, noise_S in zip(heard, noises, strict=True):
        wave_S += scale * noise_S


def _frequency_drop(
    heard: list[Wave], effect: FrequencyDropConfig, axis: Axis, draw: np.random.Generator
) -> None:
    count = int(draw.integers(effect.bands[0], effect.bands[1], endpoint=True))
    centres = draw.uniform(*effect.frequency_hz, count)
    widths = draw.uniform(*effect.width_hz, count)
    for wave_S, frequencies_F, samples in zip(heard, axis.frequencies_hz, axis.unit_samples, strict=True):
        size = axis.padded_units * samples
        spectrum_F = np.fft.rfft(wave_S, size)
        spacing = frequencies_F[1]
        for centre, width in zip(centres, widths, strict=True):
            # Nothing at the centre, 4 dB less at the edges, all at one and a half widths; no phase, so that
            # nothing moves in time.
            first, last = (int((centre + side * width) / spacing) for side in (-1.5, 1.5))
            near = slice(max(0, first), last + 1)
            distance_F = (frequencies_F[near] - centre) * (2 / width)
            spectrum_F[near] *= -np.expm1(-np.square(np.square(distance_F)))
        wave_S[:] = _inverse(spectrum_F, size)[: len(wave_S)]


def _chunk_drop(heard: list[Wave], effect: ChunkDropConfig, axis: Axis, draw: np.random.Generator) -> None:
    count = max(1, round(draw.uniform(*effect.per_second) * axis.seconds))
    lengths = np.rint(draw.uniform(*effect.seconds, count) * axis.units_per_second).astype(int)
    lengths = lengths.clip(1, axis.units)
    starts = draw.integers(axis.units - lengths + 1)
    for wave_S, samples in zip(heard, axis.unit_samples, strict=True):
        for start, length in zip(starts, lengths, strict=True):
            wave_S[start * samples : (start + length) * samples] = 0


_EFFECTS: dict[str, Callable[[list[Wave], Any, Axis, np.random.Generator], None]] = {
    "noise": _noise,
    "frequency_drop": _frequency_drop,
    "chunk_drop": _chunk_drop,
}
_NUMBERS = {"overlap": 1, "noise": 2, "frequency_drop": 3, "chunk_drop": 4, "gain": 5}
"""Whose random numbers are drawn."""


def _inverse(spectrum_F: npt.NDArray[np.complexfloating], size: int) -> Wave:
    return np.fft.irfft(spectrum_F, size).astype(np.float32, copy=False)


def _rms(wave_S: Wave) -> float:
    return float(np.sqrt(np.square(wave_S).mean(dtype=np.float64)))


def _amplitude(level_db: float) -> float:
    return float(10 ** (level_db / 20))
