"""Options of `chain`: several samplers in a row. In a recipe, a list of samplers means the same.

Apart from the sampler itself (`sampling.SamplerChain`), since recipes are checked without torch.
"""

from math import prod
from typing import Annotated, Literal

from pydantic import Field

from wavslm_core.parts.blocks import Block
from wavslm_core.parts.configs import SamplerConfig
from wavslm_core.parts.facts import SamplerFacts


class ChainConfig(SamplerConfig):
    """Samplers in a row: each sees the logits that the one before it left."""

    name: Literal["chain"] = "chain"
    steps: tuple[Annotated[SamplerConfig, Block("sampler")], ...] = Field(min_length=1)
    """The samplers, the first one first."""

    def facts(self) -> SamplerFacts:
        facts = [step.facts() for step in self.steps]
        return SamplerFacts(
            greedy=any(step.greedy for step in facts),
            history_tokens=max(step.history_tokens for step in facts),
            candidates=prod(step.candidates for step in facts),
        )
