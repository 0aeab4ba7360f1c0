"""One block of options, such as `{name: top_p, p: 0.5}`: from a dictionary to its config.

Messages say where, what was given, what is allowed and what to do, in recipes, checkpoints and calls alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import (
    BaseModel,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PydanticUserError,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from wavslm_core.errors import PluginError, RecipeError, did_you_mean, summary
from wavslm_core.parts.configs import Config, Role
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import Registry
from wavslm_core.parts.roles import ROLES

Place = tuple[str | int, ...]
LISTED: dict[Role, Callable[[list[Any]], dict[str, Any]]] = {
    "sampler": lambda steps: {"name": "chain", "steps": steps}
}
"""Role → the block that a list of its blocks stands for."""
WRONG_BLOCK = "wrong_block"
"""Type of the errors of `Block`."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a document."""

    path: Place
    """Where in the document."""
    where: str
    """The same for readers: with the chosen names in it, as in `encoder.wavlm.layers`."""
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}" if self.where else self.text


class InvalidBlock(Exception):
    """A block is no config; what is wrong with it."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True)
class Choice:
    """What a block may be: one of several configs, chosen by a tag such as `name`."""

    tag: str
    configs: Mapping[str, type[Config]]
    unknown: Callable[[str], str]
    """What to say of a name that is none of them."""
    registry: Registry | None = None
    """Where blocks inside of these are registered; what is installed by default."""
    listed: Callable[[list[Any]], dict[str, Any]] | None = None
    """Makes of a list of such blocks the one that it stands for, if it does."""

    @classmethod
    def of_role(cls, role: Role, registry: Registry) -> Choice:
        """Return the choice among everything that is registered for a role."""
        configs = {config.registered_name(): config for config in registry.config_classes(role)}
        return cls(
            ROLES[role].tag, configs, lambda name: registry.unknown(role, name), registry, LISTED.get(role)
        )

    def read(self, given: Any, *, path: Place, where: str) -> Config:
        """Return the config of a block at a place in its document. Raises: InvalidBlock."""
        if self.listed is not None and isinstance(given, (list, tuple)):
            given = self.listed(list(given))
        name = given.get(self.tag) if isinstance(given, Mapping) else None
        if name is None:
            raise InvalidBlock(Problem(path, where, self._untagged(given)))
        config_class = self.configs.get(name) if isinstance(name, str) else None
        if config_class is None:
            raise InvalidBlock(Problem(path, where, self.unknown(str(name))))
        block = f"{where}.{name}" if where else name
        try:
            return config_class.model_validate(given, context=self.registry)
        except ValidationError as error:
            raise InvalidBlock(*config_problems(error, config_class, where=block, path=path)) from None
        except PydanticUserError as error:
            broken = f"{config_class.__module__}.{config_class.__qualname__} cannot be used: {summary(error)}"
            raise InvalidBlock(Problem(path, block, f"{broken}. Report it to its authors.")) from None

    def _untagged(self, given: Any) -> str:
        names = list(self.configs)
        known = f"Allowed: {', '.join(names)}." if names else "Nothing is installed for it."
        if isinstance(given, Mapping):
            return f"`{self.tag}` is missing: it says which one this is. {known}"
        example = given if isinstance(given, str) else (names[0] if names else "…")
        return f"given {shown(given)}, but a block such as {{{self.tag}: {example}}} is needed. {known}"


@dataclass(frozen=True)
class Block:
    """The type of an option that holds a block of a role: `Annotated[SamplerConfig, Block("sampler")]`.

    It is read as such a block of a recipe is, with the same messages, and dumped with every default.
    """

    role: Role
    or_stage: bool = False
    """A text is taken too: the name of an earlier stage that left such a part."""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise PluginError(
                f"Block({self.role!r}): there is no such role. The roles are: {', '.join(ROLES)}"
            )

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            self._read,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda given, info: given if isinstance(given, str) else given.model_dump(mode=info.mode),
                info_arg=True,
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        tag = ROLES[self.role].tag
        block = {"type": "object", "required": [tag], "properties": {tag: {"type": "string"}}}
        return {"anyOf": [block, {"type": "string"}]} if self.or_stage else block

    def _read(self, given: Any, info: ValidationInfo) -> Any:
        if isinstance(given, ROLES[self.role].config) or (self.or_stage and isinstance(given, str)):
            return given
        try:
            choice = Choice.of_role(self.role, info.context or load_registry())
            return choice.read(given, path=(), where="")
        except InvalidBlock as error:
            text = "; ".join(map(str, error.problems))
            raise PydanticCustomError(WRONG_BLOCK, text) from None


def config_from_dict(role: Role, document: Any, *, where: str, registry: Registry | None = None) -> Config:
    """Return the config of one block, such as a sampler given as `{"name": "greedy"}`.

    A list of samplers stands for their chain.
    `where` names the block in messages. Raises: RecipeError listing every problem.
    """
    try:
        return Choice.of_role(role, registry or load_registry()).read(document, path=(), where=where)
    except InvalidBlock as error:
        raise RecipeError(str(error)) from None


def config_problems(
    error: ValidationError,
    config_class: type[BaseModel],
    *,
    where: str,
    path: Place = (),
    also: Sequence[str] = (),
) -> list[Problem]:
    """Return the problems of one block that was validated by itself; it may have the keys `also` besides."""
    problems = []
    for detail in error.errors(include_url=False):
        location = tuple(detail["loc"])
        allowed = keys_of(config_class, location[:-1])
        text = problem_text(dict(detail), allowed if location[:-1] else [*allowed, *also])
        shown = ".".join(filter(None, [where, *map(str, location)]))
        problems.append(Problem((*path, *location), shown, text))
    return problems


def keys_of(model: type[BaseModel] | None, inner: Place) -> list[str]:
    """Return the keys of the model found by following field names from `model`."""
    for key in inner:
        if isinstance(key, int) or model is None:
            continue
        field = model.model_fields.get(key)
        model = _model_in(field.annotation) if field is not None else None
    return list(model.model_fields) if model is not None else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [model for model in map(_model_in, get_args(annotation)) if model is not None]
    return found[0] if len(found) == 1 else None


def problem_text(detail: dict[str, Any], allowed: list[str]) -> str:
    """Return what to tell about one of pydantic's error details; `allowed` are the keys around it."""
    key = str(detail["loc"][-1]) if detail["loc"] else ""
    if detail["type"] == "extra_forbidden":
        return unknown_key(key, allowed)
    if detail["type"] == "missing":
        return "is missing and has no default: give it a value."
    message = str(detail["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message.replace("valid tuple", "list").replace("valid dictionary", "block")
    if message.startswith("Input "):
        return f"given {shown(detail['input'])}; it {message.removeprefix('Input ')}."
    told = detail["type"] in ("value_error", WRONG_BLOCK)
    return message if told else f"given {shown(detail['input'])}; {message}."


def unknown_key(key: str, allowed: list[str]) -> str:
    """Return what to tell about a key that a block may not have."""
    text = f"no such key.{did_you_mean(key, allowed)}"
    return text + (f" Allowed: {', '.join(allowed)}." if allowed else "")


def shown(value: Any) -> str:
    """Return a given value, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
