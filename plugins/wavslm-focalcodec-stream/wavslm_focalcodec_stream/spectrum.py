"""From predicted spectra to samples: inverse FFT and overlap-add."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def overlap_add(frames_BTN: Tensor, hop_samples: int) -> Tensor:
    """Add windows (B,T,N) that start `hop_samples` apart: (B, (T−1)·hop + N)."""
    batch_size, frames, size = frames_BTN.shape
    overlaps = -(-size // hop_samples)
    padded_BTN = F.pad(frames_BTN, (0, overlaps * hop_samples - size))
    # Piece m of every window lands m hops later: one shifted sum per piece instead of one per window.
    pieces_BTMH = padded_BTN.unflatten(2, (overlaps, hop_samples))
    sum_BTH = frames_BTN.new_zeros(batch_size, frames + overlaps - 1, hop_samples)
    for piece in range(overlaps):
        sum_BTH = sum_BTH + F.pad(pieces_BTMH[:, :, piece], (0, 0, piece, overlaps - 1 - piece))
    return sum_BTH.flatten(1)[:, : (frames - 1) * hop_samples + size]


def polar_to_samples(log_magnitude_BTF: Tensor, phase_BTF: Tensor, *, max_magnitude: float) -> Tensor:
    """Return inverse FFTs (B,T,N) with N = 2(F−1); magnitudes are exp(·), at most `max_magnitude`."""
    magnitude_BTF = log_magnitude_BTF.float().exp().clamp(max=max_magnitude)
    phase_BTF = phase_BTF.float()
    spectrum_BTF = torch.complex(magnitude_BTF * phase_BTF.cos(), magnitude_BTF * phase_BTF.sin())
    return torch.fft.irfft(spectrum_BTF, dim=-1)
