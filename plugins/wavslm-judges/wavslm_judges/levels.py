"""How much of a recording is silence, and how loud it is beside another one."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from wavslm_core.plugin import Metric, ReferenceFreeMetric
from wavslm_judges.config import LoudnessConfig, SilenceConfig

FRAME_S = 0.02
SILENT_DBFS = -70.0
BLOCK_S = 0.4
"""Of loudness: what is shorter has none."""
STEP_S = 0.1
ABSOLUTE_LUFS = -70.0
RELATIVE_LU = -10.0
"""Blocks that are so much quieter than the mean do not count."""
OFFSET_LUFS = -0.691
"""BS.1770: a sine of 997 Hz at full scale has -3.01 LUFS."""
SHELF_HZ, SHELF_DB, SHELF_Q = 1681.974450955533, 3.999843853973347, 0.7071752369554196
PASS_HZ, PASS_Q = 38.13547087602444, 0.5003270373238773
"""The two filters of BS.1770, whose coefficients are given at 48 kHz, by what they do at any rate: the head
lifts high frequencies, low ones are heard less."""


class Silence(ReferenceFreeMetric[SilenceConfig]):
    """Counts silent frames of all that are whole."""

    title: ClassVar[str] = "Silence"
    better: ClassVar[Literal["higher", "lower"]] = "lower"

    def judge(self, waveform_S: Tensor, *, sample_rate_hz: int) -> dict[str, float]:
        """Return the share of silence; NaN for less than a frame."""
        frame = round(FRAME_S * sample_rate_hz)
        whole = waveform_S.numel() // frame
        if not whole:
            return {"": float("nan")}
        frames_TS = waveform_S.detach().double().cpu()[: whole * frame].reshape(whole, frame)
        power_T = frames_TS.square().mean(dim=1)
        levels_T = 10 * power_T.clamp(min=1e-12).log10()
        limit_db = max(SILENT_DBFS, float(levels_T.max()) - self.config.below_db)
        return {"": float((levels_T < limit_db).double().mean())}


class Loudness(Metric[LoudnessConfig]):
    """Compares integrated loudness."""

    title: ClassVar[str] = "Loudness off the reference"
    unit: ClassVar[str] = "LU"
    better: ClassVar[Literal["higher", "lower"]] = "lower"

    def compute(self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int) -> float:
        levels = [loudness_lufs(sound_S, sample_rate_hz) for sound_S in (reference_S, estimate_S)]
        return abs(levels[0] - levels[1])


def loudness_lufs(waveform_S: Tensor, sample_rate_hz: int) -> float:
    """Return the integrated loudness (ITU-R BS.1770-4) of one channel (S,); NaN for silence or too little.

    Both filters are applied to spectra: their phases change no mean power, but at the edges of a block.
    """
    block, step = round(BLOCK_S * sample_rate_hz), round(STEP_S * sample_rate_hz)
    if waveform_S.numel() < block:
        return float("nan")
    weighted_S = _weighted(waveform_S.detach().double().cpu(), sample_rate_hz)
    power_N = weighted_S.unfold(0, block, step).square().mean(dim=1)
    loud_N = OFFSET_LUFS + 10 * power_N.clamp(min=1e-20).log10()
    heard_N = loud_N > ABSOLUTE_LUFS
    if not heard_N.any():
        return float("nan")
    gate = OFFSET_LUFS + 10 * power_N[heard_N].mean().log10() + RELATIVE_LU
    chosen_N = heard_N & (loud_N > gate)
    return float(OFFSET_LUFS + 10 * power_N[chosen_N].mean().log10())


def _weighted(waveform_S: Tensor, sample_rate_hz: int) -> Tensor:
    """Return a waveform (S,) as loud as it is heard at each frequency."""
    # Zeros keep what rings after the end from coming back at the beginning.
    size = waveform_S.numel() + sample_rate_hz
    turn_K = torch.exp(-2j * math.pi * torch.arange(size // 2 + 1, dtype=torch.float64) / size)
    spectrum_K = torch.fft.rfft(waveform_S, size)
    for numerator, denominator in (_shelf(sample_rate_hz), _high_pass(sample_rate_hz)):
        spectrum_K = spectrum_K * _at(numerator, turn_K) / _at(denominator, turn_K)
    return torch.fft.irfft(spectrum_K, size)[: waveform_S.numel()]


Coefficients = tuple[float, float, float]


def _at(coefficients: Coefficients, turn_K: Tensor) -> Tensor:
    zero, one, two = coefficients
    return zero + one * turn_K + two * turn_K.square()


def _shelf(sample_rate_hz: int) -> tuple[Coefficients, Coefficients]:
    k = math.tan(math.pi * SHELF_HZ / sample_rate_hz)
    high = 10 ** (SHELF_DB / 20)
    band = high**0.4996667741545416
    denominator = (1 + k / SHELF_Q + k * k, 2 * (k * k - 1), 1 - k / SHELF_Q + k * k)
    return (
        high + band * k / SHELF_Q + k * k,
        2 * (k * k - high),
        high - band * k / SHELF_Q + k * k,
    ), denominator


def _high_pass(sample_rate_hz: int) -> tuple[Coefficients, Coefficients]:
    k = math.tan(math.pi * PASS_HZ / sample_rate_hz)
    denominator = (1 + k / PASS_Q + k * k, 2 * (k * k - 1), 1 - k / PASS_Q + k * k)
    # The standard does not divide its numerator, 1, -2, 1, by the first coefficient.
    scale = denominator[0]
    return (scale, -2 * scale, scale), denominator
