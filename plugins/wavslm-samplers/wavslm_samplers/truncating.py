"""Samplers that drop tokens, as maps from logits to logits. Ties keep the lower id first."""

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

from wavslm_core.plugin import Sampler, SamplingContext
from wavslm_samplers.config import MinPConfig, TopKConfig, TopPConfig, TypicalConfig

FEW_TOKENS = 128
"""A nucleus is looked for among so many of the likeliest first, which is faster than to sort them all."""
QUARTERINGS = 12
"""Turns of a search: of e^16, a factor of 1.000001 is left."""
SORTED_WHOLE = 1024
"""Vocabularies up to this size are sorted at once."""


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
    # Looking at values would make a GPU wait, and cannot be traced.
    plain = probabilities_NV.is_cpu and probabilities_NV.dtype == torch.float32
    if p < 1 and plain and not torch.compiler.is_compiling():
        mask_NV = None
        if probabilities_NV.shape[-1] > SORTED_WHOLE:
            mask_NV = _kept_among(probabilities_NV.topk(FEW_TOKENS, dim=-1).values, probabilities_NV, p)
        if mask_NV is None:
            mask_NV = _kept_among(_descending(probabilities_NV), probabilities_NV, p)
        if mask_NV is not None:
            return mask_NV
    # On a GPU, hundreds of small steps take longer than to sort.
    traced = torch.compiler.is_compiling() and not probabilities_NV.is_cuda
    if p < 1 and traced and probabilities_NV.shape[-1] > FEW_TOKENS:
        return _kept_above_the_last(probabilities_NV, p)
    order_NV = probabilities_NV.argsort(dim=-1, descending=True, stable=True)
    return _first_until(probabilities_NV, order_NV, p)


def _kept_above_the_last(probabilities_NV: Tensor, p: float) -> Tensor:
    """Return the nucleus by a search for its least probability: a graph of loops over V, without sorting.

    Each turn leaves a quarter of the logarithmic range in which that lies. The few tokens in what is left of
    it, most often one, or equal ones, come in the order of their ids.
    """
    most_N1 = probabilities_NV.amax(dim=-1, keepdim=True)
    # All that are less likely than this are outside: together they hold less than 1 - p.
    least_N1 = torch.full_like(most_N1, 0.999 * (1 - p) / probabilities_NV.shape[-1])
    for _ in range(QUARTERINGS):
        root_N1 = (least_N1 / most_N1).sqrt().sqrt()
        cuts = [most_N1 * root_N1, most_N1 * root_N1.square(), most_N1 * root_N1 * root_N1.square()]
        fits = [_mass(probabilities_NV, probabilities_NV > cut_N1) <= p for cut_N1 in cuts]
        for cut_N1, fits_N1 in zip(cuts, fits, strict=True):
            most_N1 = torch.where(fits_N1, cut_N1, most_N1)
        for cut_N1, fits_N1 in zip(reversed(cuts), reversed(fits), strict=True):
            least_N1 = torch.where(fits_N1, least_N1, cut_N1)
    mask_NV = probabilities_NV > most_N1
    last_NV = (probabilities_NV > least_N1) & ~mask_NV
    masses_NV = probabilities_NV.where(last_NV, 0.0)
    before_NV = masses_NV.cumsum(dim=-1) - masses_NV + _mass(probabilities_NV, mask_NV)
    return mask_NV | (last_NV & (before_NV <= p))


def _mass(probabilities_NV: Tensor, mask_NV: Tensor) -> Tensor:
    return probabilities_NV.where(mask_NV, 0.0).sum(dim=-1, keepdim=True)


def _descending(probabilities_NV: Tensor) -> Tensor:
    """Return probabilities from the likeliest on. NumPy sorts mere values five times as fast as torch."""
    return torch.from_numpy(np.sort(probabilities_NV.detach().numpy(), axis=-1)).flip(-1)


def _kept_among(likeliest_NK: Tensor, probabilities_NV: Tensor, p: float) -> Tensor | None:
    """Return the nucleus, bit for bit that of the whole order, if the K likeliest hold it; else None."""
    count, size = likeliest_NK.shape[-1], probabilities_NV.shape[-1]
    before_NK = likeliest_NK.cumsum(dim=-1) - likeliest_NK
    counts_N1 = (before_NK <= p).sum(dim=-1, keepdim=True)
    # None at all: the row is no distribution.
    if (count < size and int(counts_N1.max()) == count) or int(counts_N1.min()) == 0:
        return None
    if p == 0:
        counts_N1 = torch.ones_like(counts_N1)
    last_N1 = likeliest_NK.gather(1, counts_N1 - 1)
    mask_NV = probabilities_NV > last_N1
    # Of those as likely as the last one, the lower ids come first.
    tied_NV = probabilities_NV == last_N1
    room_N1 = counts_N1 - mask_NV.sum(dim=-1, keepdim=True)
    if bool((tied_NV.sum(dim=-1, keepdim=True) == room_N1).all()):
        return mask_NV | tied_NV
    return mask_NV | (tied_NV & (tied_NV.cumsum(dim=-1) <= room_N1))


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
