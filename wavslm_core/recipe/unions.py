"""Fields that hold one of several registered configs, chosen by a tag such as `name`.

A hand-made tagged union instead of pydantic's `Field(discriminator=…)`: that one needs at least two
members at class-definition time, and an environment may well have one decoder, or none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from wavslm_core.parts.configs import Config, Role
from wavslm_core.parts.registry import Registry
from wavslm_core.parts.roles import ROLES

NOTHING_INSTALLED = "nothing_installed"
"""Error type of a union without members."""


@dataclass(frozen=True)
class ConfigUnion:
    """`Annotated[…, ConfigUnion(…)]`: a mapping becomes the config whose tag it gives."""

    tag: str
    members: tuple[tuple[str, type[Config]], ...]
    optional: bool = False

    @classmethod
    def of_role(cls, registry: Registry, role: Role, *, optional: bool = False) -> ConfigUnion:
        """Return the union of everything registered for a role."""
        classes = registry.config_classes(role)
        tag = ROLES[role].tag
        return cls(tag, tuple((member.registered_name(), member) for member in classes), optional)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: CoreSchema
        if self.members:
            choices = {name: handler.generate_schema(member) for name, member in self.members}
            schema = core_schema.tagged_union_schema(dict(choices), discriminator=self.tag)
        else:
            schema = core_schema.no_info_plain_validator_function(_refuse)
        return core_schema.nullable_schema(schema) if self.optional else schema

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        if self.members:
            return handler(schema)
        # Without members only the absence of the block is valid.
        return {"type": "null"} if self.optional else {"not": {}}


def _refuse(value: Any) -> Any:
    raise PydanticCustomError(NOTHING_INSTALLED, "nothing is installed for this block")


def tag_of(value: Any, tag: str) -> Any:
    """Return the tag that a raw block gives, or None when it is no mapping or gives none."""
    return value.get(tag) if isinstance(value, Mapping) else None
