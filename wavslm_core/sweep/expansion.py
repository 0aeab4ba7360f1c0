"""Expands a `sweep:` block into recipes, all validated and checked before the first one runs."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from wavslm_core.errors import RecipeError
from wavslm_core.recipe.launch_block import SlurmLaunch
from wavslm_core.recipe.model import Recipe
from wavslm_core.recipe.resolving import resolve
from wavslm_core.recipe.sweep_block import SweepConfig
from wavslm_core.sweep.space import Cell, SweepSpace, Trial

MOST_COMBINATIONS = 200
"""Up to so many combinations of values that are chosen while a sweep runs are all checked beforehand."""
MOST_PROBLEMS = 20
"""Lines of one error; the same mistake in every trial needs no more."""


def sweep_of(recipe: Recipe) -> SweepConfig:
    """Return the `sweep:` block. Raises: RecipeError when there is none."""
    if recipe.sweep is None:
        raise RecipeError(f"{recipe.source}: the recipe has no `sweep:` block. Add one, or run it as it is.")
    return recipe.sweep


def expand_sweep(recipe: Recipe, *, runs_dir: Path | None = None) -> tuple[Trial, ...]:
    """Return the trials of a recipe's `sweep:` block, the first seed of every variant first.

    With `sampler: optuna` none is known yet; then only what it may choose is checked.
    Raises: RecipeError with a line for every problem of every combination, naming its overrides.
    """
    sweep = sweep_of(recipe)
    space = SweepSpace(recipe, sweep)
    if sweep.sampler == "optuna":
        corner_trials(recipe, runs_dir=runs_dir)
        return ()
    draws = space.draws()
    points = ({**cells, **drawn} for cells in space.grid() for drawn in draws)
    wanted = [(point, seed) for point in points for seed in (sweep.seeds or (None,))]
    wanted.sort(key=lambda pair: sweep.seeds.index(pair[1]) if pair[1] is not None else 0)
    trials = _checked(space, wanted, runs_dir)
    _refuse_equal(recipe, trials)
    return tuple(trials)


def corner_trials(recipe: Recipe, *, runs_dir: Path | None = None) -> list[Trial]:
    """Return trials that together have every value, and both bounds, of what optuna may choose.

    Raises: RecipeError as `expand_sweep` does.
    """
    space = SweepSpace(recipe, sweep_of(recipe))
    return _checked(space, ((point, None) for point in _corners(space)), runs_dir)


def trial_count(sweep: SweepConfig) -> int:
    """Return how many trials a sweep has, without expanding it."""
    drawn = 1 if sweep.random is None else sweep.random.trials
    if sweep.sampler == "optuna":
        return drawn
    grid = prod(len(values) for values in sweep.grid.values())
    return grid * max(1, len(sweep.trials)) * max(1, len(sweep.seeds)) * drawn


def sweep_folder_name(recipe: Recipe, trials: Sequence[Trial]) -> str:
    """Return the name of the folder that holds the comparison: the recipe's, and what its trials compute.

    Trials that optuna chooses are not known: there the name stands for the recipe and the axes, so that more
    of them continue the same study.
    """
    text = "\n".join(sorted(trial.recipe.run_name for trial in trials))
    if sweep_of(recipe).sampler == "optuna":
        identity = resolve(recipe).identity()
        block = identity["sweep"]
        for key in ("compare", "max_parallel", "prune"):
            del block[key]
        del block["random"]["trials"]
        text = json.dumps(identity, sort_keys=True)
    return f"{recipe.name}-sweep-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _checked(
    space: SweepSpace, points: Iterable[tuple[dict[str, Cell], int | None]], runs_dir: Path | None
) -> list[Trial]:
    """Return the trials at points. Raises: RecipeError listing what is wrong with any."""
    trials: list[Trial] = []
    problems: list[str] = []
    for point, seed in points:
        try:
            trial = space.trial(point, seed, runs_dir=runs_dir)
            _refuse_own_launch(trial.recipe)
        except RecipeError as error:
            problems += str(error).splitlines()
        else:
            trials.append(trial)
    if problems:
        # Seeds repeat the problems of a combination word for word.
        different = list(dict.fromkeys(problems))
        if len(different) > MOST_PROBLEMS:
            different[MOST_PROBLEMS:] = [f"… and {len(different) - MOST_PROBLEMS} more such problems"]
        raise RecipeError("\n".join(different))
    return trials


def _refuse_own_launch(recipe: Recipe) -> None:
    """Raises: RecipeError when a stage wants a job of its own, while a trial is one job on SLURM."""
    if not isinstance(recipe.launch, SlurmLaunch):
        return
    for name, stage in recipe.named_stages():
        # What each process looks up for itself counts in any job.
        own = recipe.launch_for(stage).model_copy(
            update={"device": recipe.launch.device, "parallel": recipe.launch.parallel}
        )
        if own != recipe.launch:
            keys = ", ".join(stage.launch or {})
            raise RecipeError(
                f"{recipe.source}: the stage {name} has a `launch:` block of its own ({keys}), but "
                "a trial of a sweep is one job on SLURM, as large as the recipe's `launch:` says. Take it "
                "out; only device and parallel may differ from stage to stage. Or run that stage before, as "
                "a recipe of its own that ends with it: trials take over what is there."
            )


def _corners(space: SweepSpace) -> Iterator[dict[str, Cell]]:
    """Yield points that have every value of every choice, and both bounds of every range."""
    axes = {**space.cells}
    ranges: dict[str, list[Cell]] = {}
    for key, distribution in space.drawn.items():
        cells = [space.cell(key, value) for value in distribution.ends]
        (axes if distribution.choice is not None else ranges)[key] = cells
    lowest = {key: cells[0] for key, cells in ranges.items()}
    first = {**{key: cells[0] for key, cells in axes.items()}, **lowest}
    if prod(len(cells) for cells in axes.values()) <= MOST_COMBINATIONS:
        yield from (_ordered(space, {**point, **lowest}) for point in _products(axes))
    else:
        yield from (_ordered(space, {**first, key: cell}) for key in axes for cell in axes[key])
    yield from (_ordered(space, {**first, key: cell}) for key in ranges for cell in ranges[key][1:])


def _products(axes: dict[str, list[Cell]]) -> Iterator[dict[str, Cell]]:
    for chosen in product(*axes.values()):
        yield dict(zip(axes, chosen, strict=True))


def _ordered(space: SweepSpace, point: dict[str, Cell]) -> dict[str, Cell]:
    return {key: point[key] for key in (*space.cells, *space.drawn)}


def _refuse_equal(recipe: Recipe, trials: Sequence[Trial]) -> None:
    """Raises: RecipeError when two trials are the same run: something is varied that nothing reads."""
    seen: dict[str, Trial] = {}
    for trial in trials:
        identity: dict[str, Any] = trial.recipe.identity()
        del identity["name"]
        text = json.dumps(identity, sort_keys=True)
        if text in seen:
            raise RecipeError(
                f"{recipe.source}: the trials '{seen[text].label}' and '{trial.label}' are the same run. "
                "Leave one out, or vary something that the recipe's parts and stages have."
            )
        seen[text] = trial
