"""The multi-scale discriminator of MelGAN (arXiv 1910.06711), with the widths and norms of HiFi-GAN (arXiv
2010.05646, section 2.3).

Strided, grouped convolutions with long kernels hear what lasts. Each further sub-discriminator hears the
waveform averaged to half the rate. The first has spectral norm instead of weight norm: that one, on the raw
waveform, is the least stable.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from wavslm_core.plugin import Discriminator, Judgement
from wavslm_discriminators.config import MultiScaleConfig
from wavslm_discriminators.layers import Layers

LAYERS = (
    (8, 15, 1, 1),
    (8, 41, 2, 4),
    (4, 41, 2, 16),
    (2, 41, 4, 16),
    (1, 41, 4, 16),
    (1, 41, 1, 16),
    (1, 5, 1, 1),
)
"""By what a layer is narrower than the widest, its kernel and stride, and its groups where the widest have
1024 channels; narrower ones have fewer, so that groups stay as wide."""
PUBLISHED_CHANNELS = 1024


class MultiScale(Discriminator[MultiScaleConfig]):
    def __init__(self, config: MultiScaleConfig) -> None:
        super().__init__(config)
        self.scales = nn.ModuleList(
            _layers(config.channels, spectral=number == 0) for number in range(config.scales)
        )

    def forward(self, waveform_BS: Tensor) -> list[Judgement]:
        waveform_B1S = waveform_BS[:, None]
        judgements = []
        for number, layers in enumerate(self.scales):
            if number:
                waveform_B1S = F.avg_pool1d(waveform_B1S, kernel_size=4, stride=2, padding=2)
            judgements.append(layers(waveform_B1S))
        return judgements


def _layers(channels: int, *, spectral: bool) -> Layers:
    layers = []
    width = 1
    for share, kernel, stride, groups in LAYERS:
        groups = max(1, groups * channels // PUBLISHED_CHANNELS)
        size = channels // share
        layers.append(nn.Conv1d(width, size, kernel, stride=stride, padding=kernel // 2, groups=groups))
        width = size
    layers.append(nn.Conv1d(width, 1, 3, padding=1))
    return Layers([spectral_norm(layer) if spectral else weight_norm(layer) for layer in layers])
