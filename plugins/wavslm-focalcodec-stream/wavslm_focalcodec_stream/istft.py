"""The decoder `istft`: causal ConvNeXt and overlapping inverse STFT. It learns within minutes, and streams.

A frame's spectrum describes the `n_fft` samples that end with the frame. Each sample is the sum over
several frames, which smooths what one frame gets wrong; the price is a delay of n_fft − hop samples.
"""

from __future__ import annotations

from math import exp

import torch
from torch import Tensor, nn

from wavslm_core.plugin import Decoder, State, join_states, zero_padding
from wavslm_focalcodec_stream.convnext import ConvNeXtBackbone
from wavslm_focalcodec_stream.decoder_config import IstftConfig
from wavslm_focalcodec_stream.spectrum import overlap_add, polar_to_samples


class IstftHead(nn.Module):
    """(B,T,D) to windowed frames of samples (B,T,n_fft)."""

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
