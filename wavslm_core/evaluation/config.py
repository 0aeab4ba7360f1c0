"""Options of what is evaluated: the core's metrics, which metrics, the model's own speech, likelihoods.

Free of torch, as recipes are checked with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from wavslm_core.errors import RecipeError
from wavslm_core.parts.configs import MetricConfig, Options, modules_of


class MelDistanceConfig(MetricConfig):
    """Mean absolute difference of log-mel spectrograms, in dB; lower is better."""

    name: Literal["mel_distance"] = "mel_distance"
    mel_bands: int = Field(default=80, gt=0)
    """Mel bands between 0 Hz and half the sample rate."""
    window_ms: float = Field(default=50.0, gt=0)
    """Length of the Hann window."""
    hop_ms: float = Field(default=12.5, gt=0)
    """Time between frames."""
    range_db: float = Field(default=80.0, gt=0)
    """Everything further than this below the reference's loudest band counts as silence."""


class StoiConfig(MetricConfig):
    """Short-time objective intelligibility (Taal et al. 2011), 0 to 1; higher is better."""

    name: Literal["stoi"] = "stoi"
    extended: bool = False
    """Use the extended measure of Jensen and Taal (2016)."""

    def needs_modules(self) -> dict[str, str]:
        return {"pystoi": "pip install 'wavslm-core[metrics]'"}


MetricChoice = str | dict[str, Any]
"""`stoi`, or `{name: stoi, extended: true}`."""


def metric_configs(choices: Sequence[MetricChoice]) -> list[MetricConfig]:
    """Return the configs. Raises: ValueError for an unknown or repeated metric or a wrong option."""
    from wavslm_core.parts.blocks import config_from_dict

    configs: list[MetricConfig] = []
    for choice in choices:
        options = {"name": choice} if isinstance(choice, str) else choice
        try:
            config = config_from_dict("metric", options, where="metric")
        except RecipeError as error:
            raise ValueError(str(error)) from None
        if config.registered_name() in [other.registered_name() for other in configs]:
            raise ValueError(f"metric '{config.registered_name()}' is given twice; leave one out")
        assert isinstance(config, MetricConfig)
        configs.append(config)
    return configs


def _known(choices: tuple[MetricChoice, ...]) -> tuple[MetricChoice, ...]:
    metric_configs(choices)
    return choices


def without_reference(choices: tuple[MetricChoice, ...]) -> tuple[MetricChoice, ...]:
    """Return metrics that can judge continuations. Raises: ValueError for those that cannot."""
    needy = [
        config.registered_name()
        for config in metric_configs(choices)
        if config.needs_reference and not config.takes_prompt
    ]
    if needy:
        raise ValueError(
            f"{' and '.join(needy)} compares with a reference, but nobody knows how a recording should "
            "go on: leave it out, or compare one chunk ahead with `chunk_ahead` of `evaluate`"
        )
    return choices


MetricChoices = Annotated[tuple[MetricChoice, ...], AfterValidator(_known)]
"""The type of a field that takes metrics."""
JudgeChoices = Annotated[MetricChoices, AfterValidator(without_reference)]
"""The type of a field that takes metrics which need no reference, or take the prompt for it."""


def splits_asked_for(choices: Sequence[MetricChoice]) -> tuple[str, ...]:
    """Return the splits whose transcripts metrics learn from."""
    return tuple(split for config in metric_configs(choices) for split in config.needed_splits())


def modules_asked_for(choices: Sequence[MetricChoice]) -> dict[str, str]:
    """Return modules that metrics need beside their distributions, and what installs each."""
    return modules_of(metric_configs(choices))


Anchor = Literal["codec", "shuffled"]
"""What is judged beside continuations, besides how the recordings go on."""


class ContinuationsConfig(Options):
    """How the language model goes on after prompts, judged without a reference."""

    count: int = Field(default=16, gt=0)
    """Prompts, spread evenly over the split's recordings that are long enough."""
    prompt_seconds: Annotated[float, Field(gt=0)] | Literal["half"] = 2.0
    """The first part of each recording, which the model is given: so many seconds, or the first `half`."""
    seconds: float = Field(default=3.0, gt=0)
    """How long the model speaks on; this alone is judged. After a `half`, no longer than the other half."""
    metrics: JudgeChoices = ()
    """Metrics that need no reference, such as `dnsmos`, or take the prompt for it; without any, speed alone
    is measured."""
    anchors: tuple[Anchor, ...] = ()
    """What stands beside besides how recordings go on: that as the `codec` gives it back, and its tokens
    `shuffled`, decoded after the prompt."""


class ChunkAheadConfig(Options):
    """Every chunk drawn given what was really said before it, and compared with the recording."""

    count: int = Field(default=16, gt=0)
    """Utterances, spread evenly over the split."""
    metrics: MetricChoices = Field(min_length=1)
    """Any metrics, such as `word_error`."""


class LikelihoodRules(Options):
    """How pairs of recordings are scored and counted; stated beside every number."""

    ties: Literal["half", "strict"] = "half"
    """What a pair counts whose recordings are equally likely: one half, or nothing."""
    submit: Literal["mean", "sum"] = "mean"
    """The score in the files for official scorers, and in their tables: mean per token, or sum."""
    local_seconds: float | None = Field(default=None, gt=0)
    """How much after the place where a pair splits the localised score looks at; null: all that follows."""
