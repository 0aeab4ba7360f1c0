"""Expands a `sweep:` block into recipes, all validated and checked before the first one runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from wavslm_core.errors import RecipeError
from wavslm_core.recipe.merging import DISCRIMINATORS
from wavslm_core.recipe.model import Recipe
from wavslm_core.recipe.overrides import Override, apply_overrides
from wavslm_core.recipe.sweep_config import SweepConfig

LONGEST_NAME = 100
"""Letters of a trial's name; the digest in its folder's name keeps shortened ones apart."""


@dataclass(frozen=True)
class Trial:
    """One run of a sweep."""

    variant: str
    """What it has in common with the trials that differ in the seed only."""
    settings: Mapping[str, Any]
    """Axis → what it is set to, as people read it; a named trial is the axis `trial`. Without the seed."""
    seed: int | None
    """None when the sweep has no `seeds`."""
    recipe: Recipe

    @property
    def label(self) -> str:
        return self.variant if self.seed is None else f"{self.variant}, seed {self.seed}"


def expand_sweep(recipe: Recipe, *, runs_dir: Path | None = None) -> tuple[Trial, ...]:
    """Return the trials of a recipe's `sweep:` block, the first seed of every variant first.

    Raises: RecipeError with a line for every problem of every combination, naming its overrides.
    """
    sweep = recipe.sweep
    if sweep is None:
        raise RecipeError(f"{recipe.source}: the recipe has no `sweep:` block. Add one, or run it as it is.")
    trials: list[Trial] = []
    problems: list[str] = []
    for seed in sweep.seeds or (None,):
        for variant, settings, overrides in _combinations(sweep):
            try:
                varied = _varied(recipe, sweep, variant, overrides, seed)
                varied.check(runs_dir=runs_dir)
            except RecipeError as error:
                problems += str(error).splitlines()
            else:
                trials.append(Trial(variant, settings, seed, varied))
    # Seeds repeat the problems of a combination word for word.
    if problems:
        raise RecipeError("\n".join(dict.fromkeys(problems)))
    _refuse_equal(recipe, trials)
    return tuple(trials)


def sweep_folder_name(recipe: Recipe, trials: Sequence[Trial]) -> str:
    """Return the name of the folder that holds the comparison: the recipe's and what its trials compute."""
    text = "\n".join(sorted(trial.recipe.run_name for trial in trials))
    return f"{recipe.name}-sweep-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _combinations(sweep: SweepConfig) -> Iterator[tuple[str, dict[str, Any], list[Override]]]:
    """Yield (variant, settings, overrides) of every combination but for the seed."""
    grids = [
        [(key, name, value) for name, value in zip(_names(key, values), values, strict=True)]
        for key, values in sweep.grid.items()
    ]
    for named, cell in product(sweep.trials or (None,), product(*grids)):
        settings: dict[str, Any] = {} if named is None else {"trial": named.label}
        pairs = [] if named is None else list(named.overrides.items())
        pieces = [] if named is None else [named.label]
        for key, name, value in cell:
            settings[key] = value if isinstance(value, (int, float)) else name
            pairs.append((key, value))
            pieces.append(name if isinstance(value, str) else f"{key.rpartition('.')[2]} {name}")
        overrides = [Override(_text(key, value), tuple(key.split(".")), value) for key, value in pairs]
        yield ", ".join(pieces) or sweep.seed_key.rpartition(".")[0] or "recipe", settings, overrides


def _names(key: str, values: Sequence[Any]) -> list[str]:
    """Return what to call the values of an axis, each differently."""
    names = [_name(value) for value in values]
    return [
        name if names.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(names, start=1)
    ]


def _name(value: Any) -> str:
    if isinstance(value, Mapping):
        kinds = [str(value[key]) for key in DISCRIMINATORS if value.get(key) is not None]
        return kinds[0] if kinds else json.dumps(value)
    if isinstance(value, (list, tuple)):
        return "+".join(map(_name, value))
    return value if isinstance(value, str) else json.dumps(value)


def _text(key: str, value: Any) -> str:
    return f"{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"


def _varied(
    recipe: Recipe, sweep: SweepConfig, variant: str, overrides: Sequence[Override], seed: int | None
) -> Recipe:
    """Return the recipe of one trial. Raises: RecipeError."""
    from wavslm_core.recipe.loading import recipe_from_overrides

    given = ", ".join(override.text for override in overrides)
    all_overrides = list(overrides)
    if seed is not None:
        all_overrides.append(Override(_text(sweep.seed_key, seed), tuple(sweep.seed_key.split(".")), seed))
    document, places = apply_overrides(recipe.unvalidated(), all_overrides)
    del document["sweep"]
    repeat = "" if seed is None else f" seed {seed}"
    slug = re.sub(r"[^A-Za-z0-9._+-]+", "-", f"{recipe.name} {variant}{repeat}".replace("+", "-"))
    document["name"] = slug[:LONGEST_NAME].strip("-")
    source = f"{recipe.source} with {given}" if given else recipe.source
    return recipe_from_overrides(document, source=source, places=places, registry=recipe.registry)


def _refuse_equal(recipe: Recipe, trials: Sequence[Trial]) -> None:
    """Raises: RecipeError when two trials are the same run: something is varied that nothing reads."""
    seen: dict[str, Trial] = {}
    for trial in trials:
        identity = trial.recipe.identity()
        del identity["name"]
        text = json.dumps(identity, sort_keys=True)
        if text in seen:
            raise RecipeError(
                f"{recipe.source}: the trials '{seen[text].label}' and '{trial.label}' are the same run. "
                "Leave one out, or vary something that the recipe's parts and stages have."
            )
        seen[text] = trial
