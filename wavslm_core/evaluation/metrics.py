"""The core's metrics: how far apart two spectra sound, and how intelligible speech still is."""

import warnings
from functools import lru_cache
from importlib import import_module
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from wavslm_core.data.audio import load_torchaudio
from wavslm_core.errors import WavslmError
from wavslm_core.evaluation.config import MelDistanceConfig, StoiConfig
from wavslm_core.parts.metric import Metric, check_pair

_SMALLEST_POWER = 1e-20
_STOI_RATE_HZ = 10_000
_LONGEST_TOO_SHORT = 256 + 30 * 128
"""Samples at pystoi's rate up to which it has less than the 30 frames that it judges at once."""


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


class Stoi(Metric[StoiConfig]):
    """Short-time objective intelligibility; NaN for recordings with less than about 0.4 s of speech.

    Raises: WavslmError when pystoi is not installed.
    """

    title: ClassVar[str] = "STOI"
    better: ClassVar[Literal["higher", "lower"]] = "higher"

    def __init__(self, config: StoiConfig) -> None:
        super().__init__(config)
        try:
            self._pystoi: Any = import_module("pystoi")
        except ImportError:
            raise WavslmError(
                "the metric 'stoi' needs pystoi, which is not installed. "
                "Install it with: pip install 'wavslm-core[metrics]', or leave 'stoi' out of `metrics`"
            ) from None

    def compute(self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int) -> float:
        check_pair(reference_S, estimate_S)
        reference, estimate = (x.detach().double().cpu().numpy() for x in (reference_S, estimate_S))
        if reference.size * _STOI_RATE_HZ <= _LONGEST_TOO_SHORT * sample_rate_hz:
            # Below a single frame, pystoi raises.
            return float("nan")
        if not (reference.any() and estimate.any()):
            return 0.0 if reference.any() else float("nan")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            value = float(
                self._pystoi.stoi(reference, estimate, sample_rate_hz, extended=self.config.extended)
            )
        # pystoi answers 1e-5 with a warning when too little speech is left; that is no measurement.
        too_short = any(issubclass(entry.category, RuntimeWarning) for entry in caught)
        return float("nan") if too_short else value
