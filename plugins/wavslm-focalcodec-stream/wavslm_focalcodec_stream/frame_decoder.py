"""What decoders share whose head turns each frame into its own samples: they stream without delay."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn

from wavslm_core.plugin import Decoder, State
from wavslm_focalcodec_stream.convnext import ConvNeXtBackbone
from wavslm_focalcodec_stream.decoder_config import VocosConfig, WaveNeXtConfig

FrameConfigT = TypeVar("FrameConfigT", WaveNeXtConfig, VocosConfig)


class FrameDecoder(Decoder[FrameConfigT]):
    """A backbone that keeps the state, and a head without any."""

    backbone: ConvNeXtBackbone
    head: nn.Module

    def init_state(self, batch_size: int) -> State:
        if not self.config.causal:
            raise self.no_streaming()
        return self.backbone.init_state(batch_size)

    def step(self, features_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        if not self.config.causal:
            raise self.no_streaming()
        hidden_BTD, state = self.backbone.step(features_BTD, state)
        return self.head(hidden_BTD), state

    def flush(self, state: State) -> Tensor:
        """Return (B,0): nothing is delayed."""
        return state[0].new_zeros(state[0].shape[0], 0)
