"""The decoder `wavenext`: ConvNeXt, then each frame's samples from one linear layer (Okamoto et al. 2023)."""

from __future__ import annotations

from torch import Tensor, nn

from wavslm_focalcodec_stream.convnext import ConvNeXtBackbone
from wavslm_focalcodec_stream.decoder_config import WaveNeXtConfig
from wavslm_focalcodec_stream.frame_decoder import FrameDecoder


class WaveNeXtHead(nn.Module):
    """(B,T,D) to (B, T·hop) within ±1."""

    def __init__(self, dim: int, hop_samples: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, hop_samples)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.proj(x_BTD).flatten(1).clamp(-1.0, 1.0)


class WaveNeXt(FrameDecoder[WaveNeXtConfig]):
    """Features (B,T,D) to a waveform (B, T·hop); causal ones see zeros before the first frame."""

    def __init__(self, config: WaveNeXtConfig) -> None:
        super().__init__(config)
        self.backbone = ConvNeXtBackbone(config, causal=config.causal, left_padding="zeros")
        self.head = WaveNeXtHead(config.dim, config.hop_samples)

    def forward(self, features_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return self.head(self.backbone(features_BTD, lengths=lengths))
