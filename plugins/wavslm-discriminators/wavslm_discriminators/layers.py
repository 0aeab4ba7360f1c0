"""What all discriminators here are made of: convolutions, each of which is a map to compare."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.plugin import Judgement

SLOPE = 0.1
"""Of leaky ReLUs, as in HiFi-GAN."""


class Layers(nn.Module):
    """Convolutions one after the other; the last gives the scores."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Judgement:
        """Judge (B,C,T) or (B,C,T,F)."""
        maps: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            x = layer(x if number == 0 else F.leaky_relu(x, SLOPE))
            maps.append(x)
        return Judgement(x.flatten(1), maps)
