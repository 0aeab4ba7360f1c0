"""The decoders: a ConvNeXt backbone, then `wavenext`, `vocos` or `istft`, which turn its frames into samples.

`wavenext` (Okamoto et al. 2023) and `vocos` (Siuzdak 2023), as FocalCodec uses them, give each frame's own
samples: causal ones stream without delay. The windows of `istft` overlap: each sample is the sum over several
frames, which smooths what one frame gets wrong, so that it learns within minutes; the price is a delay of
n_fft − hop samples.
"""

from __future__ import annotations

from math import exp
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.plugin import Decoder, State, join_states, valid_mask, zero_padding
from wavslm_focalcodec_stream.convnext import ConvNeXtBackbone
from wavslm_focalcodec_stream.decoder_config import IstftConfig, VocosConfig, WaveNeXtConfig

MAX_MAGNITUDE = 100.0
FrameConfigT = TypeVar("FrameConfigT", WaveNeXtConfig, VocosConfig)


class FrameDecoder(Decoder[FrameConfigT]):
    """A backbone that keeps the state, and a head without any, which gives each frame its own samples."""

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


class IstftHead(nn.Module):
    """(B,T,D) to windowed frames of samples (B,T,n_fft), those that end with the frame."""

    def __init__(self, config: IstftConfig) -> None:
        super().__init__()
        self.n_fft = config.n_fft
        self.hop_samples = config.hop_samples
        self.max_magnitude = exp(config.max_log_magnitude)
        self.proj = nn.Linear(config.dim, config.n_fft + 2)

    def forward(self, x_BTD: Tensor) -> Tensor:
        log_magnitude_BTF, phase_BTF = self.proj(x_BTD).chunk(2, dim=-1)
        frames_BTN = polar_to_samples(log_magnitude_BTF, phase_BTF, max_magnitude=self.max_magnitude)
        # Periodic Hann windows, a hop apart, add up to n_fft / (2·hop) everywhere but at the ends.
        window_N = torch.hann_window(self.n_fft, device=x_BTD.device) * (2 * self.hop_samples / self.n_fft)
        return frames_BTN * window_N


class Istft(Decoder[IstftConfig]):
    """Features (B,T,D) to a waveform (B, T·hop). State: the backbone's, and the sum of unfinished windows."""

    def __init__(self, config: IstftConfig) -> None:
        super().__init__(config)
        self.delay_samples = config.facts().delay_samples
        self.backbone = ConvNeXtBackbone(config, causal=True, left_padding="zeros")
        self.head = IstftHead(config)

    def forward(self, features_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        frames_BTN = self.head(self.backbone(features_BTD, lengths=lengths))
        samples_BS = overlap_add(zero_padding(frames_BTN, lengths), self.config.hop_samples)
        return samples_BS[:, self.delay_samples :]

    def init_state(self, batch_size: int) -> State:
        unfinished_BS = self.backbone.embedding.weight.new_zeros(batch_size, self.delay_samples)
        return join_states(self.backbone.init_state(batch_size), (unfinished_BS,))

    @torch.no_grad()
    def step(self, features_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        *backbone_state, unfinished_BS = state
        hidden_BTD, new_backbone_state = self.backbone.step(features_BTD, tuple(backbone_state))
        samples_BS = overlap_add(self.head(hidden_BTD), self.config.hop_samples)
        samples_BS[:, : self.delay_samples] += unfinished_BS
        finished = features_BTD.shape[1] * self.config.hop_samples
        return samples_BS[:, :finished], (*new_backbone_state, samples_BS[:, finished:])

    def flush(self, state: State) -> Tensor:
        return state[-1]


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
