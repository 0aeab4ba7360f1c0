"""The multi-period discriminator of HiFi-GAN (arXiv 2010.05646, section 2.3).

A waveform folded by a period p is p signals, each every p-th sample, that pass through the same convolutions
and never meet: what is periodic shows in one of them. (There, they are the columns of a picture under kernels
of one column, which is the same and slower on CPUs.)
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
        judgements = []
        for layers, period in zip(self.folded, self.config.periods, strict=True):
            judgement = layers(folded(waveform_BS, period).flatten(0, 1)[:, None])
            maps = [value.unflatten(0, (-1, period)) for value in judgement.maps]
            judgements.append(Judgement(maps[-1].flatten(1), maps))
        return judgements


def folded(waveform_BS: Tensor, period: int) -> Tensor:
    """Return (B,period,T): every `period`-th sample, the last ones filled up by reflection."""
    missing = -waveform_BS.shape[1] % period
    mode = "reflect" if missing < waveform_BS.shape[1] else "constant"
    return F.pad(waveform_BS[:, None], (0, missing), mode)[:, 0].unflatten(1, (-1, period)).mT


def _layers(channels: int) -> Layers:
    widths = [1, *(channels // share for share in NARROWER)]
    layers = [nn.Conv1d(a, b, 5, stride=3, padding=2) for a, b in pairwise(widths)]
    layers += [nn.Conv1d(channels, channels, 5, padding=2), nn.Conv1d(channels, 1, 3, padding=1)]
    return Layers([weight_norm(layer) for layer in layers])
