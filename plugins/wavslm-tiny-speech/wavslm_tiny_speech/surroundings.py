"""Noises to speak in and rooms to speak in, made of random numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wavslm_tiny_speech.recording import Floats

Doubles = npt.NDArray[np.float64]
SNR_DB = 10.0
"""By how much speech is louder than noise."""
FADE_SECONDS = 0.02
"""At the end of what is said in a room."""
Noise = Callable[[np.random.Generator, int, int], Floats]


def in_noise(waveform: Floats, noise: Floats) -> Floats:
    """Return a waveform (S,) with as much of a noise (≥ S,), `SNR_DB` below it."""
    loud = np.sqrt(np.mean(waveform.astype(np.float64) ** 2))
    return (waveform + noise[: len(waveform)] * loud * 10 ** (-SNR_DB / 20)).astype(np.float32)


def in_room(waveform: Floats, response: Floats, sample_rate_hz: int) -> Floats:
    """Return a waveform (S,) as it sounds in a room, faded out at the end."""
    size = len(waveform) + len(response) - 1
    heard = np.fft.irfft(np.fft.rfft(waveform, size) * np.fft.rfft(response, size), size)[: len(waveform)]
    fade = min(round(FADE_SECONDS * sample_rate_hz), len(heard))
    heard[len(heard) - fade :] *= np.linspace(1, 0, fade)
    return heard.astype(np.float32)


def hiss(rng: np.random.Generator, samples: int, sample_rate_hz: int) -> Floats:
    """Return white noise (samples,)."""
    return _even(rng.standard_normal(samples))


def rumble(rng: np.random.Generator, samples: int, sample_rate_hz: int) -> Floats:
    """Return brown noise (samples,)."""
    return _even(_coloured(rng, samples, sample_rate_hz, lambda hz: np.where(hz < 40, 0, 40 / (hz + 1))))


def surf(rng: np.random.Generator, samples: int, sample_rate_hz: int) -> Floats:
    """Return pink noise (samples,) that swells and fades."""
    pink = _coloured(rng, samples, sample_rate_hz, lambda hz: np.where(hz < 40, 0, 1 / np.sqrt(hz + 1)))
    swell_hz = rng.uniform(0.8, 1.6)
    return _even(
        pink * (1.2 + np.sin(2 * np.pi * (_seconds(samples, sample_rate_hz) * swell_hz + rng.uniform())))
    )


def hum(rng: np.random.Generator, samples: int, sample_rate_hz: int) -> Floats:
    """Return a steady buzz (samples,) with harmonics."""
    time_S = _seconds(samples, sample_rate_hz)
    pitch_hz = rng.uniform(90, 160)
    parts = [
        rng.uniform(0.3, 1.0) / number * np.sin(2 * np.pi * (number * pitch_hz * time_S + rng.uniform()))
        for number in range(1, 20)
    ]
    return _even(np.sum(parts, axis=0))


def rain(rng: np.random.Generator, samples: int, sample_rate_hz: int) -> Floats:
    """Return drops (samples,): some 300 clicks a second, above 1 kHz."""
    drops = rng.standard_normal(samples) * (rng.uniform(size=samples) < 300 / sample_rate_hz)
    spectrum = np.fft.rfft(drops)
    hz = np.fft.rfftfreq(samples, 1 / sample_rate_hz)
    return _even(np.fft.irfft(spectrum * (hz / (hz + 1000)) ** 2, samples))


def crickets(rng: np.random.Generator, samples: int, sample_rate_hz: int) -> Floats:
    """Return chirps (samples,) between 2.5 and 3.5 kHz."""
    time_S = _seconds(samples, sample_rate_hz)
    chirps = np.clip(np.sin(2 * np.pi * (rng.uniform(5, 9) * time_S + rng.uniform())), 0, None)
    return _even(chirps * np.sin(2 * np.pi * rng.uniform(2500, 3500) * time_S))


NOISES: Mapping[str, Noise] = {
    "hiss": hiss,
    "rumble": rumble,
    "surf": surf,
    "hum": hum,
    "rain": rain,
    "crickets": crickets,
}


@dataclass(frozen=True)
class Room:
    """Late reverberation that decays evenly: noise of one colour."""

    decay_seconds: float
    """Until it is 60 dB weaker."""
    brightest_hz: float
    """Above it, reverberation gets weaker."""
    direct_db: float
    """By how much direct sound is stronger than all of the reverberation."""

    def response(self, rng: np.random.Generator, sample_rate_hz: int) -> Floats:
        """Return what a room makes of a click, (S,)."""
        samples = round(self.decay_seconds * sample_rate_hz)
        tail = _coloured(rng, samples, sample_rate_hz, lambda hz: 1 / (1 + (hz / self.brightest_hz) ** 2))
        tail *= 10 ** (-3 * np.arange(samples) / samples)
        tail[: round(0.003 * sample_rate_hz)] = 0
        tail *= 10 ** (-self.direct_db / 20) / np.sqrt(np.sum(tail**2))
        tail[0] = 1
        return tail.astype(np.float32)


ROOMS: Mapping[str, Room] = {
    "chamber": Room(0.25, 3000, 4),
    "bathroom": Room(0.7, 6000, -2),
    "cellar": Room(0.9, 700, -2),
    "hall": Room(1.6, 2500, 0),
}


def _seconds(samples: int, sample_rate_hz: int) -> Doubles:
    return np.arange(samples) / sample_rate_hz


def _coloured(
    rng: np.random.Generator, samples: int, sample_rate_hz: int, gain: Callable[[Doubles], Doubles]
) -> Doubles:
    """Return noise (samples,) with a gain for each frequency in Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hz = np.fft.rfftfreq(samples, 1 / sample_rate_hz).astype(np.float64)
    return np.fft.irfft(spectrum * gain(hz), samples)


def _even(noise: Doubles) -> Floats:
    """Return a noise of root mean square 1."""
    return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)
