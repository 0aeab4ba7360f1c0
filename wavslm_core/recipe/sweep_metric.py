"""Which number ranks the trials of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from wavslm_core.errors import RecipeError, did_you_mean
from wavslm_core.parts.configs import Config

if TYPE_CHECKING:
    from wavslm_core.recipe.model import Recipe

Goal = Literal["min", "max"]

GOALS: dict[str, Goal] = {"loss": "min", "bits_per_token": "min", "seconds": "min", "mel_distance": "min"}
"""Last key of a path → what is better, where nobody needs to be asked."""


class Metric(Config):
    """A number of every trial."""

    path: str = Field(min_length=1)
    """`valid.loss` is the validation loss of the last stage that trains, `train_codec.valid.loss` that of a
    certain one; anything else is where it stands in `results/`, as in `compare`:
    `evaluate.language_model.bits_per_token`."""
    goal: Goal | None = None
    """What is better; losses, bits and times are known to be best at their lowest."""

    @model_validator(mode="after")
    def _goal_is_known(self) -> Self:
        if "*" in self.path:
            raise ValueError(f"{self.path} means several numbers: name one")
        if self.goal is None and self.path.rpartition(".")[2] not in GOALS:
            raise ValueError(
                f"nobody knows whether much or little of {self.path} is better: say "
                f"`metric: {{path: {self.path}, goal: min}}`, or max"
            )
        return self

    @property
    def lower_is_better(self) -> bool:
        return (self.goal or GOALS[self.path.rpartition(".")[2]]) == "min"

    @property
    def validation(self) -> tuple[str | None, str] | None:
        """(stage, scalar) when it is measured while a stage trains; no stage: the last that trains."""
        pieces = self.path.split(".")
        if len(pieces) == 2 and pieces[0] == "valid":
            return None, pieces[1]
        if len(pieces) == 3 and pieces[1] == "valid":
            return pieces[0], pieces[2]
        return None


def validation_stage(metric: Metric, recipe: Recipe) -> str | None:
    """Return the stage of a trial that measures the metric while it trains; None for any other metric.

    Raises: RecipeError when the trial has no such stage.
    """
    trains = {name: bool(config.trains) for name, config in recipe.named_stages()}
    return measuring_stage(metric, trains, source=recipe.source)


def measuring_stage(metric: Metric, trains: Mapping[str, bool], *, source: str) -> str | None:
    """As `validation_stage`; `trains`: name of each stage → whether it trains; `source` names the recipe."""
    stages = [name for name, does in trains.items() if does]
    if metric.validation is None:
        named = {*trains, "stages"}
        first = metric.path.split(".")[0]
        if first not in named:
            raise RecipeError(
                f"{source}: sweep.metric is {metric.path}, but no stage is called '{first}'."
                f"{did_you_mean(first, named)} There are: {', '.join(sorted(named))}."
            )
        return None
    stage = metric.validation[0]
    if stage is None and stages:
        return stages[-1]
    if stage in stages:
        return stage
    there = f"Those that train: {', '.join(stages)}." if stages else "No stage trains."
    raise RecipeError(
        f"{source}: sweep.metric is {metric.path}, which a stage measures while it trains, but the "
        f"recipe has no {stage or 'such'} stage. {there}"
    )
