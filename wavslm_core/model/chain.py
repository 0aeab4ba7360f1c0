"""Options of `chain`: several samplers in a row. In a recipe, a list of samplers means the same.

Apart from the sampler itself (`sampling.SamplerChain`), since recipes are checked without torch.
"""

from __future__ import annotations

from math import prod
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, WithJsonSchema

from wavslm_core.errors import RecipeError
from wavslm_core.parts.blocks import config_from_dict
from wavslm_core.parts.configs import SamplerConfig
from wavslm_core.parts.facts import SamplerFacts


def _sampler(value: Any) -> Any:
    if isinstance(value, SamplerConfig):
        return value
    try:
        return config_from_dict("sampler", value, where="sampler")
    except RecipeError as error:
        raise ValueError(str(error)) from None


Step = Annotated[
    SerializeAsAny[SamplerConfig],
    BeforeValidator(_sampler),
    WithJsonSchema({"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}),
]


class ChainConfig(SamplerConfig):
    """Samplers in a row: each sees the logits that the one before it left."""

    name: Literal["chain"] = "chain"
    steps: tuple[Step, ...] = Field(min_length=1)
    """The samplers, the first one first."""

    def facts(self) -> SamplerFacts:
        facts = [step.facts() for step in self.steps]
        return SamplerFacts(
            greedy=any(step.greedy for step in facts),
            history_tokens=max(step.history_tokens for step in facts),
            candidates=prod(step.candidates for step in facts),
        )
