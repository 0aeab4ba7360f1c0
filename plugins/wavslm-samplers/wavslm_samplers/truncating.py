"""Samplers that drop tokens, as maps from logits to logits. Ties keep the lower id first."""

from abc import abstractmethod

import torch
from torch import Tensor

from wavslm_core.plugin import Sampler, SamplingContext
from wavslm_samplers.config import MinPConfig, TopKConfig, TopPConfig, TypicalConfig


class GreedySampler(Sampler):
    """The likeliest token."""

    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        best_N1 = logits_NV.argmax(dim=-1, keepdim=True)
        return torch.full_like(logits_NV, -torch.inf).scatter(1, best_N1, 0.0)


class TruncatingSampler(Sampler):
    """Draws among some of the tokens; subclasses say among which."""

    config: TopPConfig | TopKConfig | MinPConfig | TypicalConfig

    @abstractmethod
    def kept(self, probabilities_NV: Tensor) -> Tensor:
        """Return which tokens stay, at least one a row: a bool mask (N,V)."""

    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        scaled_NV = logits_NV / self.config.temperature
        return scaled_NV.masked_fill_(~self.kept(scaled_NV.softmax(dim=-1)), -torch.inf)


class TopPSampler(TruncatingSampler):
    """Drops tokens whose more likely ones already hold more than p; the likeliest always stays."""

    config: TopPConfig

    def kept(self, probabilities_NV: Tensor) -> Tensor:
        return kept_in_nucleus(probabilities_NV, self.config.p)


class TopKSampler(TruncatingSampler):
    """Keeps the k likeliest tokens."""

    config: TopKConfig

    def kept(self, probabilities_NV: Tensor) -> Tensor:
        place_V = torch.arange(probabilities_NV.shape[-1], device=probabilities_NV.device)
        order_NV = probabilities_NV.argsort(dim=-1, descending=True, stable=True)
        return _unsorted((place_V < self.config.k).expand_as(order_NV), order_NV)


class MinPSampler(TruncatingSampler):
    """Keeps tokens at least p times as likely as the likeliest."""

    config: MinPConfig

    def kept(self, probabilities_NV: Tensor) -> Tensor:
        return probabilities_NV >= self.config.p * probabilities_NV.amax(dim=-1, keepdim=True)


class TypicalSampler(TruncatingSampler):
    """Keeps tokens whose surprise is closest to the expected one until they hold more than p."""

    config: TypicalConfig

    def kept(self, probabilities_NV: Tensor) -> Tensor:
        surprise_NV = -probabilities_NV.clamp(min=torch.finfo(probabilities_NV.dtype).tiny).log()
        expected_N1 = (probabilities_NV * surprise_NV).sum(dim=-1, keepdim=True)
        distance_NV = (surprise_NV - expected_N1).abs()
        return _first_until(probabilities_NV, distance_NV.argsort(dim=-1, stable=True), self.config.p)


def kept_in_nucleus(probabilities_NV: Tensor, p: float) -> Tensor:
    """Return which tokens the nucleus of mass p keeps, a bool mask (N,V); p = 0 keeps the likeliest alone."""
    order_NV = probabilities_NV.argsort(dim=-1, descending=True, stable=True)
    return _first_until(probabilities_NV, order_NV, p)


def _first_until(probabilities_NV: Tensor, order_NV: Tensor, p: float) -> Tensor:
    """Return which tokens come, in this order, before the sum of those before them exceeds p."""
    if p == 1:  # The rounding of a sum over many tokens would drop the last of them.
        return torch.ones_like(probabilities_NV, dtype=torch.bool)
    ordered_NV = probabilities_NV.gather(1, order_NV)
    before_NV = ordered_NV.cumsum(dim=-1) - ordered_NV
    mask_NV = before_NV <= p if p > 0 else torch.zeros_like(before_NV, dtype=torch.bool)
    mask_NV[:, 0] = True
    return _unsorted(mask_NV, order_NV)


def _unsorted(mask_NV: Tensor, order_NV: Tensor) -> Tensor:
    """Return a mask over places in an order as one over token ids."""
    return torch.empty_like(mask_NV).scatter_(1, order_NV, mask_NV)
