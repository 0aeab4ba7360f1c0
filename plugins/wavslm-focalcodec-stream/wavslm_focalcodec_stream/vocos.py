"""The decoder `vocos`: ConvNeXt, then an inverse STFT (Siuzdak 2023), as FocalCodec uses it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wavslm_core.plugin import valid_mask
from wavslm_focalcodec_stream.convnext import ConvNeXtBackbone
from wavslm_focalcodec_stream.decoder_config import VocosConfig
from wavslm_focalcodec_stream.frame_decoder import FrameDecoder
from wavslm_focalcodec_stream.spectrum import overlap_add, polar_to_samples

MAX_MAGNITUDE = 100.0


class VocosHead(nn.Module):
    """(B,T,D) to (B, T·hop).

    Offline: windows overlap, are divided by their squared-window envelope, and half of what the last
    window adds is trimmed at both ends. Causal: the last hop of each inverse FFT, without window.
    """

    def __init__(self, config: VocosConfig) -> None:
        super().__init__()
        self.n_fft = config.n_fft
        self.hop_samples = config.hop_samples
        self.causal = config.causal
        self.proj = nn.Linear(config.dim, config.n_fft + 2)

    def forward(self, x_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        log_magnitude_BTF, phase_BTF = self.proj(x_BTD).chunk(2, dim=-1)
        frames_BTN = polar_to_samples(log_magnitude_BTF, phase_BTF, max_magnitude=MAX_MAGNITUDE)
        if self.causal:
            return frames_BTN[..., -self.hop_samples :].flatten(1)
        window_N = torch.hann_window(self.n_fft, device=x_BTD.device)
        weights_BTN = window_N.square().expand(1, x_BTD.shape[1], -1)
        frames_BTN = frames_BTN * window_N
        if lengths is not None:
            # Each item ends where its own frames end: neither its sum nor its envelope sees padding.
            valid_BT1 = valid_mask(lengths, x_BTD.shape[1])[..., None]
            frames_BTN = frames_BTN.masked_fill(~valid_BT1, 0.0)
            weights_BTN = weights_BTN * valid_BT1
        envelope_BS = overlap_add(weights_BTN, self.hop_samples)
        trimmed = (self.n_fft - self.hop_samples) // 2
        kept = slice(trimmed, trimmed + x_BTD.shape[1] * self.hop_samples)
        samples_BS = overlap_add(frames_BTN, self.hop_samples)[:, kept]
        envelope_BS = envelope_BS[:, kept]
        return samples_BS / torch.where(envelope_BS > 1e-11, envelope_BS, torch.ones_like(envelope_BS))


class Vocos(FrameDecoder[VocosConfig]):
    """Features (B,T,D) to a waveform (B, T·hop); causal ones repeat the first frame before it."""

    def __init__(self, config: VocosConfig) -> None:
        super().__init__(config)
        self.backbone = ConvNeXtBackbone(config, causal=config.causal, left_padding="replicate")
        self.head = VocosHead(config)

    def forward(self, features_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return self.head(self.backbone(features_BTD, lengths=lengths), lengths=lengths)
