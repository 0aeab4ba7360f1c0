"""Samplers that cut a distribution's tail, as maps from logits to logits. Ties keep the lower id first."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from wavslm_core.interfaces import Sampler, SamplingContext
from wavslm_next_chunk.config import MinPConfig, TopKConfig, TopPConfig


class GreedySampler(Sampler):
    """The likeliest token."""

    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        best_N1 = logits_NV.argmax(dim=-1, keepdim=True)
        return torch.full_like(logits_NV, -torch.inf).scatter(1, best_N1, 0.0)


class TruncatingSampler(Sampler):
    """Draws among the likeliest tokens; subclasses say how many stay."""

    config: TopPConfig | TopKConfig | MinPConfig

    @abstractmethod
    def keep(self, sorted_NV: Tensor) -> Tensor:
        """Return which of the probabilities, sorted downwards, stay: a bool mask (N,V)."""

    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        scaled_NV = logits_NV / self.config.temperature
        sorted_NV, ids_NV = scaled_NV.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
        dropped_NV = torch.empty_like(sorted_NV, dtype=torch.bool).scatter_(1, ids_NV, ~self.keep(sorted_NV))
        return scaled_NV.masked_fill_(dropped_NV, -torch.inf)


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
