"""A stage's own `launch:` block over the recipe's: validated with it, and which options count.

A stage says what it needs, not where: `on` is the recipe's. Options of another launcher than that one are
left out, so that a recipe whose stages ask for partitions also runs with `launch.on=local`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from wavslm_core.errors import did_you_mean
from wavslm_core.parts.blocks import Problem, problem_text
from wavslm_core.parts.configs import StageConfig
from wavslm_core.recipe.launch_block import LAUNCH_CONFIGS, LaunchConfig
from wavslm_core.recipe.model import Recipe


def effective_launch(launch: LaunchConfig, stage: StageConfig) -> LaunchConfig:
    """Return where a stage of a validated recipe runs."""
    if not stage.launch:
        return launch
    return type(launch).model_validate(_values(launch, stage))


def _values(launch: LaunchConfig, stage: StageConfig) -> dict[str, Any]:
    known = type(launch).model_fields
    own = {key: value for key, value in (stage.launch or {}).items() if key in known}
    return {**launch.model_dump(exclude_unset=True), **own}


def launch_problems(recipe: Recipe) -> Iterator[Problem]:
    """Yield what is wrong with the `launch:` blocks of a recipe's stages."""
    if recipe.launch.array is not None:
        text = "belongs into the `launch:` block of a stage whose work divides, such as tokenize."
        yield Problem(("launch", "array"), "launch.array", text)
        return
    for place, stage in enumerate(recipe.stages):
        for path, text in _stage_problems(recipe.launch, stage):
            where = ".".join(("stages", str(place), stage.registered_name(), "launch", *path))
            yield Problem(("stages", place, "launch", *path), where, text)


def _stage_problems(launch: LaunchConfig, stage: StageConfig) -> Iterator[tuple[tuple[str, ...], str]]:
    known = sorted({name for member in LAUNCH_CONFIGS for name in member.model_fields} - {"on"})
    for key in stage.launch or {}:
        if key == "on":
            yield (key,), "the whole recipe is launched by one launcher; say `on` in the recipe's `launch:`."
        elif key not in known:
            yield (key,), f"unknown option.{did_you_mean(key, known)} Allowed: {', '.join(known)}."
    values = _values(launch, stage) | {"on": launch.registered_name()}
    try:
        effective = type(launch).model_validate(values)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            yield tuple(map(str, detail["loc"])), problem_text(dict(detail), known)
        return
    if effective.array is not None and not stage.divides:
        yield ("array",), f"the work of {stage.registered_name()} does not divide. Leave it out."
