"""Options of judging the language model's own speech. Free of torch, as recipes are checked with it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from wavslm_core.evaluation.metric_choice import MetricChoices, metric_configs


class ContinuationsConfig(BaseModel):
    """How the language model goes on after prompts, judged without a reference."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    count: int = Field(default=16, gt=0)
    """Prompts, spread evenly over the split's recordings that are long enough."""
    prompt_seconds: float = Field(default=2.0, gt=0)
    """The first part of each recording, which the model is given."""
    seconds: float = Field(default=3.0, gt=0)
    """How long the model speaks on; this alone is judged."""
    metrics: MetricChoices = ()
    """Metrics that need no reference, such as `dnsmos`; without any, speed alone is measured."""

    @field_validator("metrics")
    @classmethod
    def _without_reference(cls, metrics: MetricChoices) -> MetricChoices:
        needy = [config.registered_name() for config in metric_configs(metrics) if config.needs_reference]
        if needy:
            raise ValueError(
                f"{' and '.join(needy)} compares with a reference, but nobody knows how a recording should "
                "go on: leave it out, or compare one chunk ahead with `chunk_ahead`"
            )
        return metrics


class ChunkAheadConfig(BaseModel):
    """Every chunk drawn given what was really said before it, and compared with the recording."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    count: int = Field(default=16, gt=0)
    """Utterances, spread evenly over the split."""
    metrics: MetricChoices = Field(min_length=1)
    """Any metrics, such as `word_error`."""
