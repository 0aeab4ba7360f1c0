"""Samplers: logits and one uniform number a row in, a token id a row out.

Drawing by inversion of the cumulative distribution makes a token a pure function of its own logits and its
own number, whatever else is in the batch. Ties keep the lower id first.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from wavslm_core.interfaces import Sampler
from wavslm_next_chunk.config import MinPConfig, TopKConfig, TopPConfig


class GreedySampler(Sampler):
    """The likeliest token."""

    def sample(self, logits_NV: Tensor, uniform_N: Tensor) -> Tensor:
        return logits_NV.argmax(dim=-1)


class TruncatingSampler(Sampler):
    """Draws among the likeliest tokens; subclasses say how many stay."""

    config: TopPConfig | TopKConfig | MinPConfig

    @abstractmethod
    def keep(self, sorted_NV: Tensor) -> Tensor:
        """Return which of the probabilities, sorted downwards, stay: a bool mask (N,V)."""

    def sample(self, logits_NV: Tensor, uniform_N: Tensor) -> Tensor:
        probabilities = torch.softmax(logits_NV.float() / self.config.temperature, dim=-1)
        sorted_NV, ids_NV = probabilities.sort(dim=-1, descending=True, stable=True)
        kept_NV = sorted_NV.masked_fill(~self.keep(sorted_NV), 0.0)
        cumulative_NV = kept_NV.cumsum(dim=-1)
        threshold_N1 = uniform_N[:, None] * cumulative_NV[:, -1:]
        place_N1 = torch.searchsorted(cumulative_NV, threshold_N1, right=True)
        # Rounding may put the threshold at the very end, past the last token that was kept.
        last_N1 = (kept_NV > 0).sum(dim=-1, keepdim=True) - 1
        return ids_NV.gather(1, place_N1.minimum(last_N1)).squeeze(1)


class TopPSampler(TruncatingSampler):
    """Drops tokens whose more likely ones already hold more than p; the likeliest always stays."""

    config: TopPConfig

    def keep(self, sorted_NV: Tensor) -> Tensor:
        before_NV = sorted_NV.cumsum(dim=-1) - sorted_NV
        mask_NV = before_NV <= self.config.p
        if self.config.p == 0:
            mask_NV[:, 1:] = False
        mask_NV[:, 0] = True
        return mask_NV


class TopKSampler(TruncatingSampler):
    """Keeps the k likeliest tokens."""

    config: TopKConfig

    def keep(self, sorted_NV: Tensor) -> Tensor:
        place_V = torch.arange(sorted_NV.shape[-1], device=sorted_NV.device)
        return (place_V < self.config.k).expand_as(sorted_NV)


class MinPSampler(TruncatingSampler):
    """Keeps tokens at least p times as likely as the likeliest."""

    config: MinPConfig

    def keep(self, sorted_NV: Tensor) -> Tensor:
        return sorted_NV >= self.config.p * sorted_NV[:, :1]
