"""Derives the class that validates recipes from what is installed, and its JSON schema."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, Field, GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema, core_schema

from wavslm_core.parts.configs import Config
from wavslm_core.parts.registry import Entry, Registry
from wavslm_core.parts.roles import PART_ROLES
from wavslm_core.recipe.data_block import EVERY_SPLIT, SPLITS, DataConfig
from wavslm_core.recipe.launch_block import LAUNCH_CONFIGS
from wavslm_core.recipe.model import Recipe
from wavslm_core.recipe.unions import ConfigUnion, tag_of

ONE_CORPUS, BY_SPLIT = "<one corpus>", "<by split>"
"""Tags of the two shapes of a `data:` block; they appear in error locations only."""


@dataclass(frozen=True)
class _DataUnion:
    """Tells the two shapes of a `data:` block apart and makes a `DataConfig` of either."""

    corpus: ConfigUnion
    by_split: type[BaseModel]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        shapes = {
            ONE_CORPUS: core_schema.no_info_after_validator_function(
                lambda corpus: DataConfig(((EVERY_SPLIT, corpus),)),
                handler.generate_schema(Annotated[Any, self.corpus]),
            ),
            BY_SPLIT: core_schema.no_info_after_validator_function(
                lambda blocks: DataConfig(tuple((split, corpus) for split, corpus in blocks if corpus)),
                handler.generate_schema(self.by_split),
            ),
        }
        return core_schema.nullable_schema(
            core_schema.tagged_union_schema(dict(shapes), discriminator=_data_shape)
        )


def _data_shape(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    return ONE_CORPUS if tag_of(value, "corpus") is not None else BY_SPLIT


def recipe_model(registry: Registry) -> type[Recipe]:
    """Return the class that validates recipes made of what this registry holds now."""
    return _recipe_model(registry, tuple(registry))


@cache
def _recipe_model(registry: Registry, entries: tuple[Entry, ...]) -> type[Recipe]:
    # The entries are part of the key, because parts can be registered after a recipe was read.
    corpus = ConfigUnion.of_role(registry, "corpus")
    optional_corpus = Annotated[Any, ConfigUnion.of_role(registry, "corpus", optional=True)]
    splits: dict[str, Any] = {split: (optional_corpus, None) for split in SPLITS}
    by_split = create_model("DataBySplit", __base__=Config, __doc__="One corpus for each split.", **splits)
    launch = ConfigUnion("on", tuple((member.registered_name(), member) for member in LAUNCH_CONFIGS))
    stage = ConfigUnion.of_role(registry, "stage")
    unions: dict[str, Any] = {
        role: (Annotated[Any, ConfigUnion.of_role(registry, role, optional=True)], _field(role))
        for role in PART_ROLES
    }
    unions["data"] = (Annotated[Any, _DataUnion(corpus, by_split)], _field("data"))
    unions["stages"] = (tuple[Annotated[Any, stage], ...], _field("stages"))
    unions["launch"] = (Annotated[Any, launch], _field("launch"))
    model = create_model("Recipe", __base__=Recipe, __doc__=Recipe.__doc__, **unions)
    model.registry = registry
    return model


def _field(name: str) -> Any:
    """Return a field with the default and the description that `Recipe` declares."""
    declared = Recipe.model_fields[name]
    return Field(default=declared.default, description=declared.description)


def recipe_schema(registry: Registry) -> dict[str, Any]:
    """Return the JSON schema of recipe files, for editors.

    Pydantic leaves out the parts whose options have no JSON schema.
    """
    schema = recipe_model(registry).model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "Another recipe, relative to this file; this one's keys go on top of it.",
    }
    block = {
        key: schema["properties"]["sampler"].pop(key)
        for key in ("anyOf", "oneOf", "$ref")
        if key in schema["properties"]["sampler"]
    }
    schema["properties"]["sampler"]["anyOf"] = [block, {"type": "array", "items": block}]
    # A child recipe may leave the name to the recipe that it extends.
    schema.pop("required", None)
    return schema
