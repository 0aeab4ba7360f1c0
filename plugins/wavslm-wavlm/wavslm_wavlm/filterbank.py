"""A first convolution that starts as a filterbank, for encoders that are trained from nothing in minutes.

WavLM's seven small convolutions need many hours of speech before they hear spectra, above all because the
norm after the first of them hides how loud a sample is. One long convolution whose kernels are band-pass
filters hears them at once: each band comes at four phases a quarter turn apart, and what passes the GELU of
those four adds up to about the band's magnitude.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

PHASES = 4
HIGHEST_HZ = 7600.0
GAIN = 8.0
"""Brings speech at −23 dB of full scale to where a GELU bends."""
TILT_FROM_HZ = 500.0
"""From here on kernels grow by 6 dB an octave, as speech falls: the norm that follows then sees all bands."""
BIAS = 0.01
"""Spread of a bias beside these kernels: what is quieter than it stays quiet through the norm."""
SHORTEST_SAMPLES = 160
"""Kernels of the highest bands are this long, so that they do not hear single glottal pulses only."""


def filterbank(channels: int, kernel_size: int, *, sample_rate_hz: int) -> Tensor:
    """Return weights (channels, 1, kernel_size) of `channels / 4` mel-spaced bands, each at four phases.

    Low bands are narrow and use the whole kernel; higher ones are wider and shorter, centred in it.
    Channels that are left over stay zero.
    """
    bands = channels // PHASES
    mel_per_band = 2595 * math.log10(1 + HIGHEST_HZ / 700) / bands
    edges_hz = 700 * (10 ** (torch.arange(bands + 1) * mel_per_band / 2595) - 1)
    seconds = (torch.arange(kernel_size) - (kernel_size - 1)) / sample_rate_hz
    weights = torch.zeros(channels, 1, kernel_size)
    for band, (low_hz, centre_hz) in enumerate(pairwise(edges_hz)):
        wanted = 2 * sample_rate_hz / float(centre_hz - low_hz)
        length = int(min(kernel_size, max(SHORTEST_SAMPLES, wanted)))
        window = torch.zeros(kernel_size)
        start = (kernel_size - length) // 2
        window[start : start + length] = torch.hann_window(length)
        window *= GAIN * (1 + float(centre_hz) / TILT_FROM_HZ) / window.sum()
        for phase in range(PHASES):
            turns = centre_hz * seconds + phase / PHASES
            weights[PHASES * band + phase, 0] = window * torch.cos(2 * math.pi * turns)
    return weights
