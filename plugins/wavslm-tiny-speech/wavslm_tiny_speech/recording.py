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


def record(espeak: Espeak, text: str, voice: Voice, *, sample_rate_hz: int) -> npt.NDArray[np.int16]:
    """Return an utterance (S,) of about `LEVEL_DBFS` at `sample_rate_hz`. Deterministic."""
    import torch

    from wavslm_core.plugin import resample

    spoken = trim(espeak.speak(text, voice).astype(np.float32) / np.float32(32768))
    waveform = resample(torch.from_numpy(spoken), SAMPLE_RATE_HZ, sample_rate_hz).numpy()
    return np.round(level(waveform) * 32767).astype(np.int16)


def trim(waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a waveform at `SAMPLE_RATE_HZ` without silence at its ends, but for a margin."""
    magnitude = np.abs(waveform)
    loud = np.flatnonzero(magnitude > magnitude.max(initial=0.0) * 10 ** (SILENCE_DB / 20))
    if len(loud) == 0:
        return waveform
    margin = round(MARGIN_SECONDS * SAMPLE_RATE_HZ)
    return waveform[max(0, loud[0] - margin) : loud[-1] + margin + 1]


def level(waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a waveform scaled to `LEVEL_DBFS`, or less where its peak would pass `HIGHEST_PEAK`."""
    rms = float(np.sqrt(np.mean(waveform.astype(np.float64) ** 2))) if len(waveform) else 0.0
    if rms == 0.0:
        return waveform
    gain = min(10 ** (LEVEL_DBFS / 20) / rms, HIGHEST_PEAK / float(np.abs(waveform).max()))
    return waveform * np.float32(gain)
