"""Which number ranks the trials of a sweep, and when a trial that does worse than others is stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from wavslm_core.configs import Config
from wavslm_core.errors import RecipeError, did_you_mean

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


class Prune(Config):
    """Stop trials that are worse than most others were after as many steps; they keep their checkpoints.

    A trial is judged after each validation by its best one so far. With `sampler: optuna`, its percentile
    pruner judges instead, which compares with finished trials only.
    """

    after_fraction: float = Field(default=0.25, ge=0, lt=1)
    """Share of the stage's steps that every trial gets."""
    after_steps: int | None = Field(default=None, ge=0)
    """The same in steps."""
    keep: float = Field(default=0.5, gt=0, lt=1)
    """The best share of the trials at a step that goes on: 0.5 stops those worse than the median."""
    min_trials: int = Field(default=4, ge=2)
    """Trials that must have come as far before any is judged, itself included."""

    @model_validator(mode="after")
    def _says_it_once(self) -> Self:
        if self.after_steps is not None and "after_fraction" in self.model_fields_set:
            raise ValueError("after_steps and after_fraction say the same thing: keep one")
        return self

    def first_step(self, steps: int) -> int:
        """Return from which step on a stage of so many steps is judged."""
        return round(self.after_fraction * steps) if self.after_steps is None else self.after_steps


def validation_stage(metric: Metric, recipe: Recipe) -> str | None:
    """Return the stage of a trial that measures the metric while it trains; None for any other metric.

    Raises: RecipeError when the trial has no such stage.
    """
    stages = {name: config for name, config in recipe.named_stages() if config.trains}
    if metric.validation is None:
        named = {*(name for name, _ in recipe.named_stages()), "stages"}
        first = metric.path.split(".")[0]
        if first not in named:
            raise RecipeError(
                f"{recipe.source}: sweep.metric is {metric.path}, but no stage is called '{first}'."
                f"{did_you_mean(first, named)} There are: {', '.join(sorted(named))}."
            )
        return None
    stage = metric.validation[0]
    if stage is None and stages:
        return list(stages)[-1]
    if stage in stages:
        return stage
    there = f"Those that train: {', '.join(stages)}." if stages else "No stage trains."
    raise RecipeError(
        f"{recipe.source}: sweep.metric is {metric.path}, which a stage measures while it trains, but the "
        f"recipe has no {stage or 'such'} stage. {there}"
    )
