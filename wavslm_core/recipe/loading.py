"""From a YAML file and overrides to a validated recipe. Every problem is listed at once, one line each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wavslm_core.errors import RecipeError
from wavslm_core.parts.blocks import Problem, chained
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import Registry
from wavslm_core.recipe.building import recipe_model
from wavslm_core.recipe.merging import merged
from wavslm_core.recipe.model import Recipe
from wavslm_core.recipe.overrides import apply_overrides, parse_override
from wavslm_core.recipe.problems import recipe_problems
from wavslm_core.recipe.stage_launch import launch_problems
from wavslm_core.recipe.yaml import read_yaml

MOST_EXTENDED = 32
"""Recipes below each other."""


def load_recipe(path: Path, overrides: Sequence[str], *, registry: Registry | None = None) -> Recipe:
    """See `Recipe.load`."""
    parsed = [parse_override(text) for text in overrides]
    document, places = apply_overrides(read_extended(path), parsed)
    return _validated(document, source=str(path), places=places, registry=registry)


def recipe_from_dict(document: dict[str, Any], *, source: str, registry: Registry | None = None) -> Recipe:
    """See `Recipe.from_dict`."""
    return _validated(document, source=source, places={}, registry=registry)


def recipe_from_overrides(
    document: dict[str, Any],
    *,
    source: str,
    places: dict[tuple[str | int, ...], str],
    registry: Registry | None = None,
) -> Recipe:
    """Validate a document; messages name the overrides that went to `places`. Raises: RecipeError."""
    return _validated(document, source=source, places=places, registry=registry)


def read_extended(path: Path) -> dict[str, Any]:
    """Return a recipe's document with those that it extends merged under it. Raises: RecipeError."""
    chain: list[Path] = []
    documents: list[dict[str, Any]] = []
    following: Path | None = path
    while following is not None:
        if len(chain) > MOST_EXTENDED:
            raise RecipeError(
                f"{path}: more than {MOST_EXTENDED} recipes extend each other, up to {following}. Merge some."
            )
        if following.resolve() in [seen.resolve() for seen in chain]:
            circle = " → ".join(str(seen) for seen in [*chain, following])
            raise RecipeError(
                f"{path}: recipes extend each other in a circle: {circle}. Remove one `extends`."
            )
        try:
            document = read_yaml(following)
        except RecipeError as error:
            if not chain:
                raise
            raise RecipeError(f"{chain[-1]}: `extends`: {error}") from None
        chain.append(following)
        base = document.pop("extends", None)
        if base is not None and not isinstance(base, str):
            raise RecipeError(f"{following}: `extends` must be the path of one recipe, given {base!r}.")
        documents.append(document)
        following = None if base is None else following.parent / base
    result: dict[str, Any] = {}
    for document in reversed(documents):
        result = merged(result, document)
    return result


def _validated(
    document: dict[str, Any],
    *,
    source: str,
    places: dict[tuple[str | int, ...], str],
    registry: Registry | None,
) -> Recipe:
    registry = load_registry() if registry is None else registry
    given = document
    # An absent block still takes overrides such as `launch.device=cpu`.
    launch = document.get("launch", {})
    if isinstance(launch, dict) and "on" not in launch:
        document = {**document, "launch": {"on": "local", **launch}}
    if "sampler" in document:
        document = {**document, "sampler": chained(document["sampler"])}
    try:
        recipe = recipe_model(registry).model_validate(document)
    except ValidationError as error:
        problems = recipe_problems(error, registry)
        raise RecipeError("\n".join(_line(problem, source, places) for problem in problems)) from None
    misplaced = [_line(problem, source, places) for problem in launch_problems(recipe)]
    if misplaced:
        raise RecipeError("\n".join(misplaced))
    recipe._source, recipe._document = source, given
    return recipe


def _line(problem: Problem, source: str, places: dict[tuple[str | int, ...], str]) -> str:
    """Return a problem with its origin: the override that caused it, or the file."""
    for place, text in places.items():
        if problem.path[: len(place)] == place or place[: len(problem.path)] == problem.path != ():
            return f"override '{text}': {problem}"
    return f"{source}: {problem}"
