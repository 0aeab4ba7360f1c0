"""Several samplers as one."""

from __future__ import annotations

from torch import Tensor

from wavslm_core.model.chain_config import ChainConfig
from wavslm_core.parts.interfaces import Sampler, SamplingContext
from wavslm_core.parts.plugins import load_registry


class SamplerChain(Sampler):
    """Applies samplers one after the other; each sees as much history as it asks for."""

    def __init__(self, config: ChainConfig) -> None:
        super().__init__(config)
        self.steps: list[tuple[int, Sampler]] = [
            (step.facts().history_tokens, load_registry().build(step)) for step in config.steps
        ]

    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        held = context.history_NH.shape[1]
        for wanted, step in self.steps:
            history = context.history_NH[:, max(0, held - wanted) :]
            logits_NV = step.adjust(logits_NV, SamplingContext(context.positions_N, history))
        return logits_NV
