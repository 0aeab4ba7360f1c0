"""From what the synthesiser gives to an utterance: silence trimmed, level set, resampled, 16 bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wavslm_tiny_speech.espeak import SAMPLE_RATE_HZ, Espeak
from wavslm_tiny_speech.voices import Voice

LEVEL_DBFS = -23.0
"""Root mean square of an utterance, pauses included."""
HIGHEST_PEAK = 0.95
MARGIN_SECONDS = 0.06
"""Silence kept before the first and after the last sound."""
SILENCE_DB = -50.0
"""Below the peak; espeak-ng is digitally silent between words."""


Floats = npt.NDArray[np.float32]


def record(espeak: Espeak, text: str, voice: Voice, *, sample_rate_hz: int) -> npt.NDArray[np.int16]:
    """Return an utterance (S,) of about `LEVEL_DBFS` at `sample_rate_hz`. Deterministic."""
    return sixteen_bits(level(at_rate(trim(speak(espeak, text, voice)), sample_rate_hz)))


def speak(espeak: Espeak, text: str, voice: Voice) -> Floats:
    """Return what the synthesiser gives, within ±1."""
    return espeak.speak(text, voice).astype(np.float32) / np.float32(32768)


def at_rate(waveform: Floats, sample_rate_hz: int) -> Floats:
    """Return a waveform at `SAMPLE_RATE_HZ` at another rate."""
    import torch

    from wavslm_core.plugin import resample

    found: Floats = resample(torch.from_numpy(waveform), SAMPLE_RATE_HZ, sample_rate_hz).numpy()
    return found


def sixteen_bits(waveform: Floats) -> npt.NDArray[np.int16]:
    return np.round(waveform * 32767).astype(np.int16)


def trim(waveform: Floats) -> Floats:
    """Return a waveform at `SAMPLE_RATE_HZ` without silence at its ends, but for a margin."""
    first, end = sounding(waveform)
    return waveform[first:end]


def sounding(waveform: Floats) -> tuple[int, int]:
    """Return where a waveform at `SAMPLE_RATE_HZ` begins and ends to sound, a margin included."""
    magnitude = np.abs(waveform)
    loud = np.flatnonzero(magnitude > magnitude.max(initial=0.0) * 10 ** (SILENCE_DB / 20))
    if len(loud) == 0:
        return 0, len(waveform)
    margin = round(MARGIN_SECONDS * SAMPLE_RATE_HZ)
    return max(0, int(loud[0]) - margin), min(int(loud[-1]) + margin + 1, len(waveform))


def level(waveform: Floats) -> Floats:
    """Return a waveform scaled to `LEVEL_DBFS`, or less where its peak would pass `HIGHEST_PEAK`."""
    return waveform * np.float32(gain(waveform))


def gain(waveform: Floats) -> float:
    """Return by how much a waveform is scaled to `LEVEL_DBFS`; 1 for silence."""
    rms = float(np.sqrt(np.mean(waveform.astype(np.float64) ** 2))) if len(waveform) else 0.0
    if rms == 0.0:
        return 1.0
    return min(10 ** (LEVEL_DBFS / 20) / rms, HIGHEST_PEAK / float(np.abs(waveform).max()))
