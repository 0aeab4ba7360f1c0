"""Samplers that reshape a distribution by its place in the continuation or by what was generated before."""

import torch
from torch import Tensor

from wavslm_core.plugin import Sampler, SamplingContext
from wavslm_samplers.config import (
    BestOfConfig,
    RepetitionAwareConfig,
    RepetitionPenaltyConfig,
    TemperatureConfig,
)
from wavslm_samplers.truncating import kept_in_nucleus


class TemperatureSampler(Sampler):
    """Goes from one temperature to another in equal ratios."""

    config: TemperatureConfig

    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        config = self.config
        if config.end is None:
            return logits_NV / config.start
        progress_N1 = (context.positions_N / config.over_tokens).clamp(max=1)[:, None]
        return logits_NV / (config.start * (config.end / config.start) ** progress_N1)


class RepetitionAwareSampler(Sampler):
    """Nucleus sampling; a repeated token's share of it goes to the whole distribution.

    VALL-E 2 draws from the nucleus and, when the token is repeated, once more from all tokens. That is one
    draw from a mixture, which is what this returns.
    """

    config: RepetitionAwareConfig

    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        config = self.config
        all_NV = (logits_NV / config.temperature).softmax(dim=-1)
        nucleus_NV = all_NV * kept_in_nucleus(all_NV, config.p)
        nucleus_NV = nucleus_NV / nucleus_NV.sum(dim=-1, keepdim=True)
        counts_NV = _counts(context.history_NH, logits_NV)
        repeated_NV = counts_NV > config.max_share * config.window_tokens
        moved_N1 = (nucleus_NV * repeated_NV).sum(dim=-1, keepdim=True)
        return (nucleus_NV.masked_fill(repeated_NV, 0.0) + moved_N1 * all_NV).log()


class RepetitionPenaltySampler(Sampler):
    """Takes a penalty off a token's logit for each time that it was generated lately."""

    config: RepetitionPenaltyConfig

    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        return logits_NV - self.config.penalty_nats * _counts(context.history_NH, logits_NV)


class BestOfSampler(Sampler):
    """Leaves the logits alone; that several continuations are drawn and ranked is in its facts."""

    config: BestOfConfig

    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        return logits_NV


def _counts(history_NH: Tensor, like_NV: Tensor) -> Tensor:
    """Return how often each token stands in the history, (N,V); places before the first token count none."""
    known_NH = history_NH >= 0
    counts_NV = torch.zeros_like(like_NV)
    return counts_NV.scatter_add_(1, history_NH.clamp(min=0), known_NH.to(like_NV.dtype))
