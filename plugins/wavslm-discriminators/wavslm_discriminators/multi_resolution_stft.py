"""Discriminators of spectrograms at several resolutions.

Layers are those of EnCodec (arXiv 2210.13438, section 3.4): kernels of three frames and nine bands (one more
than there, so that padding is even), dilated in time while bands are halved, then one of 3×3 and the scores.
UnivNet (arXiv 2106.07889) sees magnitudes by the same kernels without dilation: `spectrum: magnitude`,
`dilations: [1, 1, 1]`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from wavslm_core.plugin import Discriminator, Judgement
from wavslm_discriminators.config import MultiResolutionStftConfig
from wavslm_discriminators.layers import Layers

HOPS_PER_WINDOW = 4


class MultiResolutionStft(Discriminator[MultiResolutionStftConfig]):
    def __init__(self, config: MultiResolutionStftConfig) -> None:
        super().__init__(config)
        self.resolutions = nn.ModuleList(_layers(config) for _ in config.window_samples)
        for size in config.window_samples:
            window_N = torch.hann_window(size)
            # Of unit energy, so that noise is as loud at every resolution.
            self.register_buffer(f"window_{size}", window_N / window_N.norm(), persistent=False)

    def forward(self, waveform_BS: Tensor) -> list[Judgement]:
        return [
            layers(self.spectrum(waveform_BS, size))
            for layers, size in zip(self.resolutions, self.config.window_samples, strict=True)
        ]

    def spectrum(self, waveform_BS: Tensor, size: int) -> Tensor:
        """Return (B,C,T,F): real and imaginary parts or magnitudes, in fp32 under any autocast."""
        with torch.autocast(waveform_BS.device.type, enabled=False):
            spectrum_BFT = torch.stft(
                F.pad(waveform_BS.float(), (size // 2, size // 2)),
                size,
                hop_length=size // HOPS_PER_WINDOW,
                window=self.get_buffer(f"window_{size}"),
                center=False,
                return_complex=True,
            )
            spectrum_BTF = spectrum_BFT.mT
            if self.config.spectrum == "magnitude":
                return spectrum_BTF.abs()[:, None]
            return torch.stack([spectrum_BTF.real, spectrum_BTF.imag], dim=1)


def _layers(config: MultiResolutionStftConfig) -> Layers:
    seen = 2 if config.spectrum == "complex" else 1
    width = config.channels
    layers = [
        nn.Conv2d(seen, width, (3, 9), padding=(1, 4)),
        *(
            nn.Conv2d(width, width, (3, 9), stride=(1, 2), dilation=(dilation, 1), padding=(dilation, 4))
            for dilation in config.dilations
        ),
        nn.Conv2d(width, width, (3, 3), padding=(1, 1)),
        nn.Conv2d(width, 1, (3, 3), padding=(1, 1)),
    ]
    return Layers([weight_norm(layer) for layer in layers])
