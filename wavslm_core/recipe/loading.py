"""From a YAML file and overrides to a validated recipe. Every problem is listed at once, one line each."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wavslm_core.errors import RecipeError, did_you_mean
from wavslm_core.parts.augment_config import AugmentConfig
from wavslm_core.parts.blocks import (
    Choice,
    InvalidBlock,
    Place,
    Problem,
    config_problems,
    problem_text,
    shown,
    unknown_key,
)
from wavslm_core.parts.configs import AUGMENT, EVERY_SPLIT, SPLITS, DataConfig, Role, StageConfig
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import Registry
from wavslm_core.parts.roles import PART_ROLES
from wavslm_core.recipe.launch_block import LAUNCH_CONFIGS, LaunchConfig
from wavslm_core.recipe.model import Recipe
from wavslm_core.recipe.overrides import apply_overrides, merged, parse_override
from wavslm_core.recipe.yaml import read_yaml

MOST_EXTENDED = 32
"""Recipes below each other."""
Places = Mapping[Place, str]
"""Place in a document → the override that went there."""


def load_recipe(
    path: str | Path, overrides: Sequence[str] = (), *, registry: Registry | None = None
) -> Recipe:
    """Read a YAML recipe, follow `extends`, apply `a.b=value` overrides, validate.

    Raises: RecipeError listing every problem, one line each.
    """
    parsed = [parse_override(text) for text in overrides]
    document, places = apply_overrides(read_extended(Path(path)), parsed)
    return recipe_from_dict(document, source=str(path), places=places, registry=registry)


def recipe_from_dict(
    document: dict[str, Any],
    *,
    source: str = "recipe",
    places: Places | None = None,
    registry: Registry | None = None,
) -> Recipe:
    """Validate a document as YAML would give it.

    `source` names it in messages, and so do the overrides that went to `places`. Raises: RecipeError.
    """
    registry = load_registry() if registry is None else registry
    reader = _Reader(registry)
    recipe = reader.recipe(document)
    if recipe is None or reader.problems:
        raise RecipeError("\n".join(_line(problem, source, places or {}) for problem in reader.problems))
    recipe._source, recipe._document, recipe._registry = source, document, registry
    return recipe


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


class _Reader:
    """Reads the blocks of a document; what is wrong with any of them goes to `problems`."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.problems: list[Problem] = []

    def recipe(self, document: Mapping[str, Any]) -> Recipe | None:
        """Return the recipe; None when there are problems."""
        values = dict(document)
        for role in PART_ROLES:
            if values.get(role) is not None:
                values[role] = self.block(self.choice(role), values[role], (role,), role)
        if values.get("data") is not None:
            values["data"] = self.data(values["data"])
        if "stages" in values:
            values["stages"] = self.stages(values["stages"])
        values["launch"] = self.launch(values.get("launch", {}))
        # What could not be read is told already; the rest is validated all the same.
        unread = [key for key in ("stages", "launch") if values.get(key) is None]
        try:
            recipe = Recipe.model_validate({key: values[key] for key in values if key not in unread})
        except ValidationError as error:
            self.problems += config_problems(error, Recipe, where="", also=("extends",))
        if self.problems:
            order = {key: place for place, key in enumerate(Recipe.model_fields)}
            self.problems.sort(key=lambda problem: order.get(str(problem.path[0]), len(order)))
            return None
        self.problems += _launch_problems(recipe)
        return recipe

    def choice(self, role: Role) -> Choice:
        return Choice.of_role(role, self.registry)

    def block(self, choice: Choice, given: Any, path: Place, where: str) -> Any:
        """Return the config of a block; None when there are problems."""
        try:
            return choice.read(given, path=path, where=where)
        except InvalidBlock as error:
            self.problems += error.problems
            return None

    def data(self, given: Any) -> DataConfig | None:
        """Return the `data:` block, which has one of two shapes: a corpus, or one for each split."""
        corpus = self.choice("corpus")
        augment = None
        if isinstance(given, Mapping) and AUGMENT in given:
            augment = self.augment(given[AUGMENT])
            given = {key: given[key] for key in given if key != AUGMENT}
        if not isinstance(given, Mapping) or given.get("corpus") is not None:
            one = self.block(corpus, given, ("data",), "data")
            return None if one is None else DataConfig(((EVERY_SPLIT, one),), augment)
        for key in given:
            if key not in SPLITS:
                self.refuse(("data", key), unknown_key(str(key), ["corpus", *SPLITS, AUGMENT]))
        blocks = [
            (split, self.block(corpus, given[split], ("data", split), f"data.{split}"))
            for split in SPLITS
            if given.get(split) is not None
        ]
        return DataConfig(tuple(blocks), augment)

    def augment(self, given: Any) -> AugmentConfig | None:
        if given is None:
            return None
        try:
            return AugmentConfig.model_validate(given)
        except ValidationError as error:
            place = ("data", AUGMENT)
            self.problems += config_problems(error, AugmentConfig, where=".".join(place), path=place)
            return None

    def stages(self, given: Any) -> tuple[Any, ...] | None:
        if not isinstance(given, (list, tuple)):
            self.refuse(("stages",), f"given {shown(given)}; it should be a list.")
            return None
        stage = self.choice("stage")
        read = [
            self.block(stage, block, ("stages", place), f"stages.{place}")
            for place, block in enumerate(given)
        ]
        return None if None in read else tuple(read)

    def launch(self, given: Any) -> Any:
        # An absent block still takes overrides such as `launch.device=cpu`.
        if isinstance(given, Mapping) and "on" not in given:
            given = {"on": "local", **given}
        launchers = {config.registered_name(): config for config in LAUNCH_CONFIGS}

        def unknown(name: str) -> str:
            known = f"Allowed: {', '.join(launchers)}."
            return f"no launcher is called '{name}'.{did_you_mean(name, launchers)} {known}"

        return self.block(Choice("on", launchers, unknown), given, ("launch",), "launch")

    def refuse(self, path: Place, text: str) -> None:
        self.problems.append(Problem(path, ".".join(map(str, path)), text))


def _launch_problems(recipe: Recipe) -> Iterator[Problem]:
    """Yield what is wrong with the `launch:` blocks of a recipe's stages.

    A stage says what it needs, not where: `on` is the recipe's. Options of another launcher than that one are
    left out, so that a recipe whose stages ask for partitions also runs with `launch.on=local`.
    """
    if recipe.launch.array is not None:
        text = "belongs into the `launch:` block of a stage whose work divides, such as tokenize."
        yield Problem(("launch", "array"), "launch.array", text)
        return
    for place, stage in enumerate(recipe.stages):
        for path, text in _stage_launch_problems(recipe.launch, stage):
            where = ".".join(("stages", str(place), stage.registered_name(), "launch", *path))
            yield Problem(("stages", place, "launch", *path), where, text)


def _stage_launch_problems(launch: LaunchConfig, stage: StageConfig) -> Iterator[tuple[tuple[str, ...], str]]:
    known = sorted({name for member in LAUNCH_CONFIGS for name in member.model_fields} - {"on"})
    for key in stage.launch or {}:
        if key == "on":
            yield (key,), "the whole recipe is launched by one launcher; say `on` in the recipe's `launch:`."
        elif key not in known:
            yield (key,), unknown_key(key, known).replace("no such key", "unknown option")
    try:
        effective = launch.overlaid(stage.launch)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            yield tuple(map(str, detail["loc"])), problem_text(dict(detail), known)
        return
    if effective.array is not None and not stage.divides:
        yield ("array",), f"the work of {stage.registered_name()} does not divide. Leave it out."


def _line(problem: Problem, source: str, places: Places) -> str:
    """Return a problem with its origin: the override that caused it, or the file.

    Of overrides inside of what is wrong as a whole, it is the one whose key the problem names.
    """
    path = problem.path
    around = [place for place in places if path[: len(place)] == place]
    inside = [place for place in places if path and place[: len(path)] == path]
    named = [place for place in inside if re.search(rf"\b{re.escape(str(place[-1]))}\b", problem.text)]
    for found in (sorted(around, key=len)[-1:], named, inside):
        if len(found) == 1:
            return f"override '{places[found[0]]}': {problem}"
    return f"{source}: {problem}"
