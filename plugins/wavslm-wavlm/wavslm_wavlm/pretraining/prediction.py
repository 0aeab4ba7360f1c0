"""Masked prediction (HuBERT, 2106.07447): spans of frames are hidden, and their clusters predicted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_wavlm.encoder import WavLM

BoolArray = npt.NDArray[np.bool_]


class ClusterPredictor(nn.Module):
    """What pretraining puts around an encoder and takes away afterwards.

    Logits are cosines between projected hidden states and an embedding of each cluster, divided by a
    temperature, as published. They are bounded, so that neither rare clusters nor a high learning rate run
    away with them; a linear layer instead differs by little else.
    """

    def __init__(self, dim: int, clusters: int, *, projection_dim: int, temperature: float) -> None:
        super().__init__()
        self.mask_embedding = nn.Parameter(torch.rand(dim))
        self.projection = nn.Linear(dim, projection_dim)
        self.cluster_embeddings = nn.Parameter(torch.randn(clusters, projection_dim))
        self.temperature = temperature

    def hidden_states(
        self, encoder: WavLM, waveform_BS: Tensor, masked_BT: Tensor, *, lengths: Tensor | None
    ) -> Tensor:
        """Return the last layer's hidden states (B,T,D) where masked frames are not heard.

        `lengths` counts samples.
        """
        frames_BTD = encoder.project(waveform_BS, lengths=lengths)
        frames_BTD = torch.where(masked_BT[..., None], self.mask_embedding.to(frames_BTD.dtype), frames_BTD)
        frame_lengths = None if lengths is None else encoder.frame_lengths(lengths)
        *_, last_BTD = encoder.encoder.hidden_states(frames_BTD, lengths=frame_lengths)
        return last_BTD

    def forward(self, hidden_ND: Tensor) -> Tensor:
        """Map hidden states (N,D) to logits (N,K), float32."""
        rows_NP = F.normalize(self.projection(hidden_ND).float(), dim=-1)
        embeddings_KP = F.normalize(self.cluster_embeddings.float(), dim=-1)
        with torch.autocast(rows_NP.device.type, enabled=False):
            return rows_NP @ embeddings_KP.T / self.temperature


def span_mask(frames: int, *, probability: float, span: int, generator: np.random.Generator) -> BoolArray:
    """Return which frames (T,) are hidden: each begins with `probability` a span, and spans may overlap.

    At least one begins. The expected share far from the ends is 1 − (1 − probability) ^ span.
    """
    starts_T = generator.random(frames) < probability
    if not starts_T.any():
        starts_T[generator.integers(frames)] = True
    begun_T = np.cumsum(starts_T)
    return begun_T > np.concatenate([np.zeros(min(span, frames), begun_T.dtype), begun_T[:-span]])


def copied(labels_T: npt.NDArray[np.int64], masked_T: BoolArray) -> npt.NDArray[np.int64]:
    """Return labels (T,) in which each hidden one is that of the nearest frame that is heard: a mark to beat.

    Where none is heard, all are −1.
    """
    heard = np.flatnonzero(~masked_T)
    if not len(heard):
        return np.full_like(labels_T, -1)
    frames_T = np.arange(len(labels_T))
    after_T = np.searchsorted(heard, frames_T).clip(max=len(heard) - 1)
    before_T = (after_T - 1).clip(min=0)
    nearer_T = np.abs(heard[before_T] - frames_T) <= np.abs(heard[after_T] - frames_T)
    return labels_T[heard[np.where(nearer_T, before_T, after_T)]]
