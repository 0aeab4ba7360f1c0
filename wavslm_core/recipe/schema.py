"""The JSON schema of recipe files, for editors: derived from what is installed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Annotated, Any, Never

from pydantic import Field, create_model

from wavslm_core.parts.augment_config import AugmentConfig
from wavslm_core.parts.configs import AUGMENT, SPLITS, Config, Role
from wavslm_core.parts.registry import Registry
from wavslm_core.parts.roles import PART_ROLES, ROLES
from wavslm_core.recipe.launch_block import LAUNCH_CONFIGS
from wavslm_core.recipe.model import Recipe


def recipe_schema(registry: Registry) -> dict[str, Any]:
    """Return the JSON schema of recipe files.

    Pydantic leaves out the parts whose options have no JSON schema.
    """

    def of_role(role: Role) -> Any:
        return _one_of(registry.config_classes(role), ROLES[role].tag)

    corpus: Any = of_role("corpus")
    augment: Any = AugmentConfig | None, None
    splits: dict[str, Any] = {split: (corpus | None, None) for split in SPLITS} | {AUGMENT: augment}
    by_split = create_model("DataBySplit", __base__=Config, __doc__="One corpus for each split.", **splits)
    blocks = {role: of_role(role) | None for role in PART_ROLES}
    blocks["sampler"] |= _tuple_of(of_role("sampler"))
    # One corpus for all splits has what else is said of the data beside its options.
    for_all = [
        create_model(
            f"{config.__name__}ForAll", __base__=config, __doc__=config.__doc__, **{AUGMENT: augment}
        )
        for config in registry.config_classes("corpus")
    ]
    blocks["data"] = _one_of(for_all, ROLES["corpus"].tag) | by_split | None
    blocks["stages"] = _tuple_of(of_role("stage"))
    blocks["launch"] = _one_of(LAUNCH_CONFIGS, "on")
    fields: dict[str, Any] = {name: (block, _field(name)) for name, block in blocks.items()}
    schema = create_model("Recipe", __base__=Recipe, __doc__=Recipe.__doc__, **fields).model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "Another recipe, relative to this file; this one's keys go on top of it.",
    }
    # A child recipe may leave the name to the recipe that it extends.
    schema.pop("required", None)
    return schema


def _one_of(configs: Sequence[type[Config]], tag: str) -> Any:
    """Return the type of a block that is one of these, chosen by its tag; of none, what nothing is."""
    if len(configs) < 2:
        return Annotated[configs[0] if configs else Never, Field()]
    return Annotated[reduce(or_, configs), Field(discriminator=tag)]


def _tuple_of(block: Any) -> Any:
    return tuple[block, ...]


def _field(name: str) -> Any:
    """Return a field with the default that `Recipe` declares."""
    return Field(default=Recipe.model_fields[name].default)
