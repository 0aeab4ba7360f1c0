"""One block of options, such as `{name: top_p, p: 0.5}`: from a dictionary to its config.

Messages say where, what was given, what is allowed and what to do, in recipes, checkpoints and calls alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from wavslm_core.errors import RecipeError, did_you_mean
from wavslm_core.parts.configs import Config, Role
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import Registry
from wavslm_core.parts.roles import ROLES


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a document."""

    path: tuple[str | int, ...]
    """Where in the document."""
    where: str
    """The same for readers: with the chosen names in it, as in `encoder.wavlm.layers`."""
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}" if self.where else self.text


def chained(value: Any) -> Any:
    """Return the block that a list of samplers stands for; anything else as it is."""
    return {"name": "chain", "steps": list(value)} if isinstance(value, (list, tuple)) else value


def config_from_dict(role: Role, document: Any, *, where: str, registry: Registry | None = None) -> Config:
    """Return the config of one block, such as a sampler given as `{"name": "greedy"}`.

    A list of samplers stands for their chain.
    `where` names the block in messages. Raises: RecipeError listing every problem.
    """
    registry = load_registry() if registry is None else registry
    if role == "sampler":
        document = chained(document)
    tag = ROLES[role].tag
    name = document.get(tag) if isinstance(document, dict) else None
    names = registry.names(role)
    if not isinstance(name, str):
        raise RecipeError(
            f"{where}: given {document!r}, but a block such as {{{tag}: {names[0] if names else '…'}}} is "
            f"needed. Installed: {', '.join(names) or 'nothing'}."
        )
    if name not in names:
        raise RecipeError(f"{where}: {registry.unknown(role, name)}")
    config_class = registry.entry(role, name).config_class
    try:
        return config_class.model_validate(document)
    except ValidationError as error:
        problems = config_problems(error, config_class, where=f"{where}.{name}")
        raise RecipeError("\n".join(map(str, problems))) from None


def config_problems(
    error: ValidationError, config_class: type[Config], *, where: str, path: tuple[str | int, ...] = ()
) -> list[Problem]:
    """Return the problems of one block that was validated by itself."""
    problems = []
    for detail in error.errors(include_url=False):
        location = tuple(detail["loc"])
        text = problem_text(dict(detail), keys_of(config_class, location[:-1]))
        shown = ".".join([where, *map(str, location)])
        problems.append(Problem((*path, *location), shown, text))
    return problems


def keys_of(model: type[BaseModel] | None, inner: tuple[str | int, ...]) -> list[str]:
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
        text = f"no such key.{did_you_mean(key, allowed)}"
        return text + (f" Allowed: {', '.join(allowed)}." if allowed else "")
    if detail["type"] == "missing":
        return "is missing and has no default: give it a value."
    message = str(detail["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message.replace("valid tuple", "list").replace("valid dictionary", "block")
    if message.startswith("Input "):
        return f"given {shown(detail['input'])}; it {message.removeprefix('Input ')}."
    return message if detail["type"] == "value_error" else f"given {shown(detail['input'])}; {message}."


def shown(value: Any) -> str:
    """Return a given value, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
