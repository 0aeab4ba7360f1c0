"""The `sweep:` block of a recipe: what to vary, how often to repeat it, and which numbers to go by."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from wavslm_core.errors import RecipeError, did_you_mean
from wavslm_core.parts.configs import Config, Options
from wavslm_core.recipe.sweep_axes import RandomAxes

NEVER_VARIED = ("name", "extends", "sweep", "launch")
"""First keys of a recipe that are no axis: they change no result, or what a sweep is."""

Goal = Literal["min", "max"]

GOALS: dict[str, Goal] = {"loss": "min", "bits_per_token": "min", "seconds": "min", "mel_distance": "min"}
"""Last key of a path → what is better, where nobody needs to be asked."""


class SweepMetric(Config):
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


class NamedTrial(Options):
    """One set of overrides: `{label: fsq, quantizer: {name: fsq}, stages.train_codec.steps: 500}`."""

    model_config = ConfigDict(extra="allow")

    label: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._+-]*$")
    """Names it in folders and tables. Every other key is an override, as on the command line."""

    @property
    def overrides(self) -> dict[str, Any]:
        """Dotted key → value."""
        return dict(self.model_extra or {})


class Column(Config):
    """A number of every trial."""

    path: str = Field(min_length=1)
    """Where it stands: a file in `results/` and the keys inside, such as
    `evaluate.language_model.bits_per_token` or `evaluate.codec.metrics.stoi`; `*` is any one key;
    `stages.train_lm.seconds` is how long a stage took."""
    title: str | None = None
    """Heading; default: what the results call it."""
    better: Literal["higher", "lower"] | None = None
    """Which one is set in bold; default: what the results say, else none."""


def _or_text(schema: dict[str, Any]) -> None:
    """Tell editors that the path alone will do."""
    schema["anyOf"].append({"type": "string"})


def _items_or_text(schema: dict[str, Any]) -> None:
    schema["items"] = {"anyOf": [schema["items"], {"type": "string"}]}


class SweepConfig(Config):
    """Variations of this recipe, all checked before the first one runs, and compared."""

    grid: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Override → values, such as `{head.chunk_tokens: [4, 8]}`; every combination becomes a trial."""
    trials: tuple[NamedTrial, ...] = ()
    """Named sets of overrides, each combined with the whole grid."""
    random: RandomAxes | None = None
    """Override → distribution, and `trials`: how many sets of values to draw, each combined with the grid."""
    sampler: Literal["random", "optuna"] = "random"
    """What chooses: `random` knows all trials beforehand. `optuna` (`pip install wavslm-core[optuna]`)
    chooses each by the results of those before, from `random`'s ranges and the values of `grid` and
    `trials`."""
    metric: SweepMetric | None = Field(default=None, json_schema_extra=_or_text)
    """What ranks the trials, such as `valid.loss` or `{path: evaluate.codec.metrics.stoi, goal: max}`."""
    prune: Prune | None = None
    """Stop trials that fall behind; `{}` stops those worse than the median after a quarter of their steps."""
    max_parallel: int = Field(default=1, gt=0)
    """Trials that run at once: on SLURM tasks of one job array, on this machine child processes, which need
    `launch: {process: child}`."""
    seeds: tuple[int, ...] = ()
    """Every combination is run with each; tables then show means with 95% intervals."""
    seed_key: str = "seed"
    """Override that takes the seeds; `stages.train_lm.seed` repeats the language model alone on one codec."""
    compare: tuple[Column, ...] = Field(default=(), json_schema_extra=_items_or_text)
    """Columns of the table; default: the scores of `evaluate`, sizes and times."""

    @field_validator("metric", mode="before")
    @classmethod
    def _path_alone(cls, metric: Any) -> Any:
        return {"path": metric} if isinstance(metric, str) else metric

    @field_validator("compare", mode="before")
    @classmethod
    def _paths_alone(cls, columns: Any) -> Any:
        if not isinstance(columns, (list, tuple)):
            return columns
        return [{"path": column} if isinstance(column, str) else column for column in columns]

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        drawn = {} if self.random is None else self.random.axes
        if self.random is not None and not drawn:
            raise ValueError("random has no axes: give a distribution, or leave it out")
        if not (self.grid or self.trials or self.seeds or drawn):
            raise ValueError("nothing varies: give `grid`, `random`, `trials` or `seeds`")
        labels = [trial.label for trial in self.trials]
        _refuse_twice("trials have the label", labels)
        _refuse_twice("seeds has", self.seeds)
        for key, values in self.grid.items():
            if not values:
                raise ValueError(f"grid.{key} has no values: list at least one, or leave it out")
        for trial in self.trials:
            twice = next((key for key in trial.overrides if key in self.grid), None)
            if twice is not None:
                raise ValueError(f"trial '{trial.label}' sets {twice}, which `grid` varies: keep one")
        named = [key for trial in self.trials for key in trial.overrides]
        twice = next((key for key in drawn if key in (*self.grid, *named)), None)
        if twice is not None:
            raise ValueError(f"{twice} is drawn by `random` and set by `grid` or `trials`: keep one")
        varied = [*self.grid, *drawn, *named]
        if self.seeds and self.seed_key in varied:
            raise ValueError(f"{self.seed_key} is varied beside `seeds`, which sets it: keep one")
        for key in varied:
            if not all(key.split(".")) or key.split(".")[0] in NEVER_VARIED:
                raise ValueError(
                    f"'{key}' cannot be varied: give the dotted key of something that a run computes with, "
                    "such as head.name or stages.train_lm.steps"
                )
        self._can_choose()
        return self

    def _can_choose(self) -> None:
        if self.sampler == "optuna":
            if self.random is None:
                raise ValueError("optuna needs `random`: its ranges, and how many `trials` to try")
            if self.metric is None:
                raise ValueError("optuna needs a `metric` to go by, such as valid.loss")
            if self.seeds:
                raise ValueError(
                    "optuna tries each set of values once: leave `seeds` out, and repeat the best ones in "
                    "another sweep"
                )
        if self.prune is not None and (self.metric is None or self.metric.validation is None):
            raise ValueError("prune goes by what training measures: give a `metric` such as valid.loss")


def _refuse_twice(what: str, values: Any) -> None:
    twice = [value for place, value in enumerate(values) if value in values[:place]]
    if twice:
        raise ValueError(f"{what} {twice[0]} twice: each can be there once")


def measuring_stage(metric: SweepMetric, trains: Mapping[str, bool], *, source: str) -> str | None:
    """Return the stage that measures the metric while it trains; None for any other metric.

    `trains`: name of each stage → whether it trains; `source` names the recipe. Raises: RecipeError when
    there is no such stage.
    """
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
