"""The multi-period discriminator of HiFi-GAN (arXiv 2010.05646, section 2.3).

A waveform folded by a period p is a picture of T/p rows and p columns. Kernels reach over rows alone, so that
each column, every p-th sample, is judged as a signal of its own: what is periodic shows in one of them.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from wavslm_core.plugin import Discriminator, Judgement
from wavslm_discriminators.config import MultiPeriodConfig
from wavslm_discriminators.layers import Layers

NARROWER = (32, 8, 2, 1)
"""By what the first four layers are narrower than the widest."""


class MultiPeriod(Discriminator[MultiPeriodConfig]):
    def __init__(self, config: MultiPeriodConfig) -> None:
        super().__init__(config)
        self.folded = nn.ModuleList(_layers(config.channels) for _ in config.periods)

    def forward(self, waveform_BS: Tensor) -> list[Judgement]:
        return [
            layers(folded(waveform_BS, period)[:, None])
            for layers, period in zip(self.folded, self.config.periods, strict=True)
        ]


def folded(waveform_BS: Tensor, period: int) -> Tensor:
    """Return (B,T,period): the waveform in rows of a period, the last one filled up by reflection."""
    missing = -waveform_BS.shape[1] % period
    mode = "reflect" if missing < waveform_BS.shape[1] else "constant"
    return F.pad(waveform_BS[:, None], (0, missing), mode)[:, 0].unflatten(1, (-1, period))


def _layers(channels: int) -> Layers:
    widths = [1, *(channels // share for share in NARROWER)]
    layers = [nn.Conv2d(a, b, (5, 1), stride=(3, 1), padding=(2, 0)) for a, b in pairwise(widths)]
    layers += [
        nn.Conv2d(channels, channels, (5, 1), padding=(2, 0)),
        nn.Conv2d(channels, 1, (3, 1), padding=(1, 0)),
    ]
    return Layers([weight_norm(layer) for layer in layers])
