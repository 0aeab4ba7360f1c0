"""The axes of a sweep, and the trial that a point on them is."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from wavslm_core.errors import RecipeError
from wavslm_core.recipe.checks import check
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import Recipe, ResolvedRecipe
from wavslm_core.recipe.overrides import TAGS, Override, apply_overrides
from wavslm_core.recipe.sweep_axes import Distribution
from wavslm_core.recipe.sweep_block import SweepConfig, SweepMetric, measuring_stage

LONGEST_NAME = 100
"""Letters of a trial's name; the digest in its folder's name keeps shortened ones apart."""
NAMED = "trial"
"""The axis of a sweep's named trials."""

Cell = tuple[str, Any]
"""What a value of an axis is called, and the value; of a named trial its overrides."""


@dataclass(frozen=True)
class Trial:
    """One run of a sweep."""

    variant: str
    """What it has in common with the trials that differ in the seed only."""
    settings: Mapping[str, Any]
    """Axis → what it is set to, as people read it; a named trial is the axis `trial`. Without the seed."""
    seed: int | None
    """None when the sweep has no `seeds`."""
    recipe: ResolvedRecipe
    """Checked."""

    @property
    def label(self) -> str:
        return trial_label(self.variant, self.seed)


def trial_label(variant: str, seed: int | None) -> str:
    """Return what a trial is called where people read it."""
    return variant if seed is None else f"{variant}, seed {seed}"


class SweepSpace:
    """Every axis of a recipe's `sweep:` block but for the seeds."""

    def __init__(self, recipe: Recipe, sweep: SweepConfig) -> None:
        self.recipe = recipe
        self.sweep = sweep
        self.cells: dict[str, list[Cell]] = {}
        """Axis → its values, of everything that is not a range."""
        if sweep.trials:
            self.cells[NAMED] = [(trial.label, trial.overrides) for trial in sweep.trials]
        for key, values in sweep.grid.items():
            self.cells[key] = cells_of(values)
        self.drawn: dict[str, Distribution] = {} if sweep.random is None else sweep.random.axes

    def grid(self) -> Iterator[dict[str, Cell]]:
        """Yield every combination of named trials and grid."""
        for chosen in product(*self.cells.values()):
            yield dict(zip(self.cells, chosen, strict=True))

    def draws(self) -> list[dict[str, Cell]]:
        """Return the values of the drawn axes, each set different.

        Raises: RecipeError when there are not enough.
        """
        random = self.sweep.random
        if random is None:
            return [{}]
        found: dict[str, dict[str, Cell]] = {}
        patience = 100 * random.trials
        for number in range(patience):
            if len(found) == random.trials:
                break
            values = random.draw(number)
            found.setdefault(
                json.dumps(values), {key: self.cell(key, value) for key, value in values.items()}
            )
        if len(found) < random.trials:
            raise RecipeError(
                f"{self.recipe.source}: sweep.random.trials is {random.trials}, but only {len(found)} "
                f"different sets of values came out of {patience} draws. Ask for fewer, or use `grid`."
            )
        return list(found.values())

    def cell(self, key: str, value: Any) -> Cell:
        """Return a value of a drawn axis with its name."""
        choice = self.drawn[key].choice
        if choice is None:
            return json.dumps(value), value
        return next(cell for cell in cells_of(choice) if cell[1] == value)

    def trial(
        self, point: Mapping[str, Cell], seed: int | None = None, *, runs_dir: Path | None = None
    ) -> Trial:
        """Return the checked trial at a point that has a value on every axis. Raises: RecipeError.

        `runs_dir`: what the trial's run already holds there need not be left by a stage.
        """
        settings: dict[str, Any] = {}
        pairs: list[tuple[str, Any]] = []
        pieces: list[str] = []
        for key, (name, value) in point.items():
            if key == NAMED and self.sweep.trials:
                settings[NAMED] = name
                pairs += value.items()
                pieces.append(name)
                continue
            settings[key] = value if isinstance(value, (int, float)) else name
            pairs.append((key, value))
            pieces.append(name if isinstance(value, str) else f"{key.rpartition('.')[2]} {name}")
        overrides = [Override(_text(key, value), tuple(key.split(".")), value) for key, value in pairs]
        variant = ", ".join(pieces) or self.sweep.seed_key.rpartition(".")[0] or "recipe"
        recipe = check(self._varied(variant, overrides, seed), runs_dir=runs_dir)
        return Trial(variant, settings, seed, recipe)

    def _varied(self, variant: str, overrides: Sequence[Override], seed: int | None) -> Recipe:
        given = ", ".join(override.text for override in overrides)
        all_overrides = list(overrides)
        if seed is not None:
            key = self.sweep.seed_key
            all_overrides.append(Override(_text(key, seed), tuple(key.split(".")), seed))
        document, places = apply_overrides(self.recipe.unvalidated(), all_overrides)
        del document["sweep"]
        repeat = "" if seed is None else f" seed {seed}"
        name = f"{self.recipe.name} {variant}{repeat}".replace("+", "-")
        document["name"] = re.sub(r"[^A-Za-z0-9._+-]+", "-", name)[:LONGEST_NAME].strip("-")
        source = f"{self.recipe.source} with {given}" if given else self.recipe.source
        varied = recipe_from_dict(document, source=source, places=places, registry=self.recipe.registry)
        if self.sweep.metric is not None:
            validation_stage(self.sweep.metric, varied)
        return varied


def validation_stage(metric: SweepMetric, recipe: Recipe) -> str | None:
    """Return the stage of a trial that measures the metric while it trains; None for any other metric.

    Raises: RecipeError when the trial has no such stage.
    """
    trains = {name: bool(config.trains) for name, config in recipe.named_stages()}
    return measuring_stage(metric, trains, source=recipe.source)


def cells_of(values: Sequence[Any]) -> list[Cell]:
    """Return the values of an axis with names, each a different one."""
    names = [_name(value) for value in values]
    return [
        (name if names.count(name) == 1 else f"{name} ({place})", value)
        for place, (name, value) in enumerate(zip(names, values, strict=True), start=1)
    ]


def _name(value: Any) -> str:
    if isinstance(value, Mapping):
        kinds = [str(value[key]) for key in TAGS if value.get(key) is not None]
        return kinds[0] if kinds else json.dumps(value)
    if isinstance(value, (list, tuple)):
        return "+".join(map(_name, value))
    return value if isinstance(value, str) else json.dumps(value)


def _text(key: str, value: Any) -> str:
    return f"{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
