"""Turns validation errors into lines that say where, what was given, what is allowed, and what to do."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from wavslm_core.errors import did_you_mean
from wavslm_core.parts.blocks import Problem, keys_of, problem_text, shown
from wavslm_core.parts.configs import Config, Role
from wavslm_core.parts.registry import Registry
from wavslm_core.parts.roles import PART_ROLES
from wavslm_core.recipe.building import BY_SPLIT, ONE_CORPUS
from wavslm_core.recipe.data_block import SPLITS
from wavslm_core.recipe.launch_block import LAUNCH_CONFIGS
from wavslm_core.recipe.model import Recipe
from wavslm_core.recipe.unions import NOTHING_INSTALLED, tag_of

LEADING_ROLES: dict[str, Role] = {**{role: role for role in PART_ROLES}, "stages": "stage", "data": "corpus"}
"""First key of a location → role of the blocks under it."""
MISSING_TAG = {"union_tag_not_found", "model_attributes_type", "dict_type", "model_type"}


def recipe_problems(error: ValidationError, registry: Registry) -> list[Problem]:
    """Return the problems of a recipe document."""
    return [_recipe_problem(dict(detail), registry) for detail in error.errors(include_url=False)]


def _recipe_problem(detail: dict[str, Any], registry: Registry) -> Problem:
    location: tuple[str | int, ...] = tuple(detail["loc"])
    role = LEADING_ROLES.get(str(location[0])) if location else None
    tags = _tag_places(location, registry, role)
    path = tuple(piece for place, piece in enumerate(location) if place not in tags)
    where = ".".join(str(piece) for piece in location if piece not in (ONE_CORPUS, BY_SPLIT))
    if location and _is_union(location, tags):
        text = _union_text(detail, location, role, registry)
        if text is not None:
            return Problem(path, where, text)
    return Problem(path, where, problem_text(detail, _allowed_at(location, tags, role, registry)))


def _tag_places(location: tuple[str | int, ...], registry: Registry, role: Role | None) -> set[int]:
    """Return the places in a location that hold chosen tags instead of the document's keys."""
    if not location or not (role or location[0] == "launch"):
        return set()
    if location[0] == "data":
        places = {1, 2 if location[1:2] == (ONE_CORPUS,) else 3}
        if location[1:2] == (BY_SPLIT,) and location[2:3] and location[2] not in SPLITS:
            places = {1}
    else:
        places = {2} if location[0] == "stages" else {1}
    return {place for place in places if place < len(location)}


def _is_union(location: tuple[str | int, ...], tags: set[int]) -> bool:
    """Tell whether a location ends at a block whose member could not be chosen."""
    if location[0] == "data":
        return location[1:] == () or location[1:] == (ONE_CORPUS,) or (len(location) == 3 and tags == {1})
    if location[0] == "stages":
        return len(location) == 2
    return len(location) == 1 and (location[0] in LEADING_ROLES or location[0] == "launch")


def _union_text(
    detail: dict[str, Any], location: tuple[str | int, ...], role: Role | None, registry: Registry
) -> str | None:
    """Return the message for a block that names nothing installed, or None for any other problem."""
    kind, given = detail["type"], detail["input"]
    tag = {"stages": "run", "data": "corpus", "launch": "on"}.get(str(location[0]), "name")
    names = registry.names(role) if role else [member.registered_name() for member in LAUNCH_CONFIGS]
    known = f"Allowed: {', '.join(names)}." if names else "Nothing is installed for it."
    named = tag_of(given, tag)
    if kind == "union_tag_invalid" or (kind == NOTHING_INSTALLED and named is not None):
        if role is not None:
            return registry.unknown(role, str(named))
        return f"no launcher is called '{named}'.{did_you_mean(str(named), names)} {known}"
    if kind not in MISSING_TAG | {NOTHING_INSTALLED}:
        return None
    if isinstance(given, dict):
        return f"`{tag}` is missing: it says which one this is. {known}"
    example = given if isinstance(given, str) else (names[0] if names else "…")
    return f"given {shown(given)}, but a block such as {{{tag}: {example}}} is needed. {known}"


def _allowed_at(
    location: tuple[str | int, ...], tags: set[int], role: Role | None, registry: Registry
) -> list[str]:
    """Return the keys that the block around a location's last key may have."""
    if not location:
        return []
    if len(location) == 1:
        return [*Recipe.model_fields, "extends"]
    if location[0] == "data" and tags == {1}:
        return ["corpus", *SPLITS]
    if not tags:
        return keys_of(Recipe, location[:-1])
    last_tag = max(tags)
    chosen = str(location[last_tag])
    if role is not None:
        config_class: type[Config] = registry.entry(role, chosen).config_class
    else:
        config_class = next(member for member in LAUNCH_CONFIGS if member.registered_name() == chosen)
    return keys_of(config_class, location[last_tag + 1 : -1])
