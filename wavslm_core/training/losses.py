"""Losses of codec training: how far apart two waveforms sound, and how far apart two feature streams are.

Log-mel differences at several resolutions, as in HiFi-GAN, Vocos and FocalCodec: short windows see onsets,
long ones harmonics. Of what was tried on five minutes of CPU (plain log-magnitudes, spectral convergence,
five resolutions instead of three), this reached intelligible speech first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.data.audio import load_torchaudio

HOPS_PER_WINDOW = 4
"""Windows overlap by three quarters."""
SAMPLES_PER_BAND = 8
"""A window of N samples is read in at most N/8 mel bands; with more, low bands would hold no Fourier bin."""


class MelLoss(nn.Module):
    """Mean |difference| of log-mel amplitudes, in nepers (8.7 dB), averaged over resolutions.

    `floor` is the amplitude, relative to full scale, that is added before the logarithm, so that what is
    quieter hardly counts.
    """

    def __init__(
        self,
        sample_rate_hz: int,
        *,
        window_samples: Sequence[int] = (512, 1024, 2048),
        mel_bands: int = 80,
        floor: float = 2e-5,
    ) -> None:
        super().__init__()
        self.window_samples = tuple(window_samples)
        self.floor = floor
        filterbank = load_torchaudio().functional.melscale_fbanks
        for size in self.window_samples:
            bands = min(mel_bands, size // SAMPLES_PER_BAND)
            window_N = torch.hann_window(size)
            filters_KM = filterbank(size // 2 + 1, 0.0, sample_rate_hz / 2, bands, sample_rate_hz)
            # Scaled so that a sinusoid of amplitude one has a peak of one at every resolution.
            self.register_buffer(f"window_{size}", window_N * (2 / window_N.sum()), persistent=False)
            self.register_buffer(f"filters_{size}", filters_KM, persistent=False)

    def forward(self, estimate_BS: Tensor, target_BS: Tensor) -> Tensor:
        """Compare waveforms (B,S) in [-1, 1]; returns a scalar. Computed in fp32 under any autocast."""
        with torch.autocast(estimate_BS.device.type, enabled=False):
            pair_PS = torch.cat([estimate_BS, target_BS]).float()
            distances = [self._distance(pair_PS, size) for size in self.window_samples]
            return torch.stack(distances).mean()

    def _distance(self, pair_PS: Tensor, size: int) -> Tensor:
        spectrum_PKF = torch.stft(
            F.pad(pair_PS, (size // 2, size // 2)),
            size,
            hop_length=size // HOPS_PER_WINDOW,
            window=self.get_buffer(f"window_{size}"),
            center=False,
            return_complex=True,
        )
        mel_PFM = spectrum_PKF.abs().mT @ self.get_buffer(f"filters_{size}")
        estimate_BFM, target_BFM = (mel_PFM + self.floor).log().chunk(2)
        return (estimate_BFM - target_BFM).abs().mean()


def feature_distance(estimate_BTD: Tensor, target_BTD: Tensor, mask_BT: Tensor | None = None) -> Tensor:
    """Return the mean squared difference of features after a LayerNorm without weights, a scalar.

    Normalised, because features that are trained along could otherwise come close by becoming small, and
    the target is not differentiated, because it could come close by becoming simple. `mask_BT` is True at
    valid frames.
    """
    width = (target_BTD.shape[-1],)
    target = F.layer_norm(target_BTD.detach().float(), width)
    squares_BT = (F.layer_norm(estimate_BTD.float(), width) - target).square().mean(dim=-1)
    return squares_BT.mean() if mask_BT is None else squares_BT[mask_BT].mean()
