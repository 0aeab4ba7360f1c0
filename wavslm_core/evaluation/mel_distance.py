"""Mel distance: how far apart two spectra sound, in dB per band and frame."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar, Literal

import torch
from torch import Tensor

from wavslm_core.data.audio import load_torchaudio
from wavslm_core.evaluation.config import MelDistanceConfig
from wavslm_core.parts.metric import Metric, check_pair

_SMALLEST_POWER = 1e-20


class MelDistance(Metric[MelDistanceConfig]):
    """Mean |difference| of log-mel power spectrograms in dB, silence cut off at `range_db`.

    The cut-off is taken from the reference's loudest band, so a change of both levels changes nothing.
    """

    title: ClassVar[str] = "Mel distance"
    unit: ClassVar[str] = "dB"
    better: ClassVar[Literal["higher", "lower"]] = "lower"

    def compute(self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int) -> float:
        check_pair(reference_S, estimate_S)
        reference_FM = self._power(reference_S, sample_rate_hz)
        estimate_FM = self._power(estimate_S, sample_rate_hz)
        loudest = reference_FM.max().clamp(min=_SMALLEST_POWER)
        floor = loudest * 10 ** (-self.config.range_db / 10)
        levels = [10 * power.clamp(min=floor).log10() for power in (reference_FM, estimate_FM)]
        return (levels[0] - levels[1]).abs().mean().item()

    def _power(self, waveform_S: Tensor, sample_rate_hz: int) -> Tensor:
        """Return the mel power spectrogram (frames, bands)."""
        window_samples = max(16, round(self.config.window_ms * sample_rate_hz / 1000))
        hop_samples = max(1, round(self.config.hop_ms * sample_rate_hz / 1000))
        # Twice the window keeps the lowest mel bands from falling between two Fourier bins.
        n_fft = 2 * window_samples
        padded_S = torch.nn.functional.pad(waveform_S.float().cpu(), (n_fft // 2, n_fft // 2))
        spectrum_KF = torch.stft(
            padded_S,
            n_fft,
            hop_length=hop_samples,
            win_length=window_samples,
            window=torch.hann_window(window_samples),
            center=False,
            return_complex=True,
        )
        power_FK = spectrum_KF.abs().square().T
        return power_FK @ _filters(n_fft // 2 + 1, self.config.mel_bands, sample_rate_hz)


@lru_cache(maxsize=8)
def _filters(bins: int, bands: int, sample_rate_hz: int) -> Tensor:
    """Return triangular mel filters (bins, bands)."""
    functional = load_torchaudio().functional
    filters: Tensor = functional.melscale_fbanks(bins, 0.0, sample_rate_hz / 2, bands, sample_rate_hz)
    return filters
