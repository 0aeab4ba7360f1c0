"""Utterance mixing of WavLM (2110.13900): a part of an utterance is drowned in another one, or in noise.

What is mixed follows from a generator that belongs to the item: the same in every process and in every run.
It is done by the thread that reads ahead, and costs a training step nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wavslm_core.plugin import Split
from wavslm_wavlm.config import SAMPLE_RATE_HZ
from wavslm_wavlm.pretraining.config import Decibels, MixingConfig

STEEPEST = 2.0
"""Exponent with which the power of noise falls with frequency at most: 6 dB an octave."""


class Mixing:
    """See the module."""

    def __init__(self, config: MixingConfig, speech: Split, noise: Split | None = None) -> None:
        """`speech`: other utterances come from it. Without `noise` it is made."""
        self.config = config
        self.speech = speech
        self.noise = noise

    def __call__(self, waveform_S: Tensor, generator: np.random.Generator) -> Tensor:
        """Return a waveform (S,) with what is mixed into it, itself when that is nothing."""
        config = self.config
        if generator.random() >= config.probability:
            return waveform_S
        if generator.random() >= config.noise_probability:
            other_S = random_crop(self.speech, len(waveform_S), generator)
            return mixed(waveform_S, other_S, config.speech_ratio_db, config.longest, generator)
        if self.noise is None:
            other_S = coloured_noise(len(waveform_S), generator)
        else:
            other_S = random_crop(self.noise, len(waveform_S), generator)
        return mixed(waveform_S, other_S, config.noise_ratio_db, config.longest, generator)


def random_crop(split: Split, samples: int, generator: np.random.Generator) -> Tensor:
    """Return up to so many samples of any utterance, from any place."""
    index = int(generator.integers(len(split.utterances)))
    room = round(float(split.durations_s[index]) * SAMPLE_RATE_HZ) - samples
    start = int(generator.integers(max(0, room) + 1))
    return split.load_crop(index, start=start, samples=samples, sample_rate_hz=SAMPLE_RATE_HZ)


def coloured_noise(samples: int, generator: np.random.Generator) -> Tensor:
    """Return Gaussian noise (S,) whose power falls as frequency to a random exponent of 0 to `STEEPEST`."""
    spectrum_K = np.fft.rfft(generator.standard_normal(samples, dtype=np.float32))
    places_K = np.maximum(1, np.arange(len(spectrum_K)))
    spectrum_K *= places_K ** (-generator.uniform(0, STEEPEST) / 2)
    return torch.from_numpy(np.fft.irfft(spectrum_K, samples).astype(np.float32))


def mixed(
    waveform_S: Tensor, other_R: Tensor, ratio_db: Decibels, longest: float, generator: np.random.Generator
) -> Tensor:
    """Return a waveform with a random part of another one added at a random place.

    The energy ratio, of the whole to the whole, is uniform in `ratio_db`; the length uniform up to `longest`
    of the waveform. Silence is not amplified, and nothing is added to it.
    """
    energies = [float(signal.square().mean()) for signal in (waveform_S, other_R)]
    ratio = 10 ** (generator.uniform(*ratio_db) / 10)
    size = int(generator.integers(max(1, int(longest * len(waveform_S))))) + 1
    size = min(size, len(other_R))
    start = int(generator.integers(len(waveform_S) - size + 1))
    other_start = int(generator.integers(len(other_R) - size + 1))
    if min(energies) == 0:
        return waveform_S
    scale = (energies[0] / (ratio * energies[1])) ** 0.5
    out_S = waveform_S.clone()
    out_S[start : start + size] += scale * other_R[other_start : other_start + size]
    return out_S
