"""Fills linked fields: facts flow from the encoder to the sampler, and each part takes what it needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from wavslm_core.errors import PluginError, RecipeError, WavslmError, summary
from wavslm_core.parts.blocks import config_problems
from wavslm_core.parts.configs import Config, PartConfig, Role
from wavslm_core.parts.facts import (
    CodecFacts,
    DecoderFacts,
    EncoderFacts,
    PartFacts,
    QuantizerFacts,
)
from wavslm_core.parts.registry import Registry
from wavslm_core.parts.roles import CODEC_ROLES, PART_ROLES, ROLES
from wavslm_core.recipe.checkpoints import checkpoint_configs
from wavslm_core.recipe.model import Recipe

ConfigT = TypeVar("ConfigT", bound=Config)


@dataclass
class Links:
    """The parts of a recipe with their linked fields filled in, and what stood in the way."""

    registry: Registry
    parts: dict[Role, PartConfig] = field(default_factory=dict)
    facts: dict[Role, PartFacts] = field(default_factory=dict)
    """Of the parts whose facts could be stated."""
    unfilled: list[str] = field(default_factory=list)
    """Why fields could not be filled in; such a recipe cannot be resolved."""
    conflicts: list[str] = field(default_factory=list)
    """Given values that disagree with a neighbour's facts."""
    checked: set[tuple[str, str]] = field(default_factory=set)
    """(part, source) of every link that was compared, so that checks need not say it twice."""
    unknown: set[Role] = field(default_factory=set)
    """Roles whose facts could not be stated; what is linked to them is not complained about again."""


def link_recipe(recipe: Recipe) -> Links:
    """Return the recipe's parts, linked. Never raises for what a user can mend: see `Links.unfilled`."""
    links = Links(recipe.registry)
    given = recipe.parts()
    if recipe.codec is not None:
        blocks = [role for role in CODEC_ROLES if role in given]
        if blocks:
            links.conflicts.append(
                f"codec.checkpoint and the {' and '.join(blocks)} block are both given. Keep the "
                f"checkpoint or the blocks; in a recipe that extends another, `codec: null` or "
                f"`{blocks[0]}: null` removes one."
            )
        try:
            given = {**given, **checkpoint_configs(recipe.codec.checkpoint, recipe.registry, kind="codec")}
        except WavslmError as error:
            links.unfilled.append(f"codec.checkpoint: {error}")
            given = {role: config for role, config in given.items() if role not in CODEC_ROLES}
            links.unknown.update(CODEC_ROLES)
    for role in PART_ROLES:
        if role in given:
            _link_part(links, role, given[role])
    return links


def resolve_recipe(recipe: Recipe) -> Recipe:
    """See `Recipe.resolve`."""
    links = link_recipe(recipe)
    stages = tuple(
        _filled(links, stage, where=f"stages.{stage.registered_name()}") for stage in recipe.stages
    )
    raise_problems(recipe, links.unfilled)
    updates: dict[str, Any] = {"stages": stages}
    for role in recipe.parts():
        if recipe.codec is None or role not in CODEC_ROLES:
            updates[role] = links.parts[role]
    return recipe.model_copy(update=updates)


def resolved_parts(recipe: Recipe) -> dict[Role, PartConfig]:
    """See `Recipe.part_configs`."""
    links = link_recipe(recipe)
    raise_problems(recipe, links.unfilled)
    return links.parts


def codec_facts(recipe: Recipe) -> CodecFacts:
    """See `Recipe.codec_facts`."""
    links = link_recipe(recipe)
    raise_problems(recipe, links.unfilled)
    absent = [role for role in CODEC_ROLES if role not in links.facts]
    if absent:
        raise RecipeError(
            f"{recipe.source}: the recipe has no {' and no '.join(absent)}. "
            "Add the block or name a trained codec with `codec: {checkpoint: …}`."
        )
    return CodecFacts(
        encoder=cast(EncoderFacts, links.facts["encoder"]),
        quantizer=cast(QuantizerFacts, links.facts["quantizer"]),
        decoder=cast(DecoderFacts, links.facts["decoder"]),
    )


def raise_problems(recipe: Recipe, problems: list[str]) -> None:
    """Raise one RecipeError with a line for each problem, if there is any."""
    if problems:
        raise RecipeError("\n".join(f"{recipe.source}: {problem}" for problem in problems))


def _link_part(links: Links, role: Role, config: PartConfig) -> None:
    name = config.registered_name()
    before = len(links.unfilled)
    config = _filled(links, config, where=role)
    links.parts[role] = config
    unresolved = [field for field in config.links() if not getattr(config, field)]
    if unresolved or len(links.unfilled) > before:
        links.unknown.add(role)
        return
    try:
        facts = config.facts()
        wanted = ROLES[role].facts
        if wanted is not None and not isinstance(facts, wanted):
            raise TypeError(f"it returns {type(facts).__name__}, not {wanted.__name__}")
    except WavslmError as error:
        links.unfilled.append(f"{role}.{name}: {error}")
        links.unknown.add(role)
    except Exception as error:
        links.unfilled.append(
            f"{role}.{name}: facts() of {links.registry.described(config)} fails: {summary(error)}. "
            "Change its options, or report it to the authors of that plugin"
        )
        links.unknown.add(role)
    else:
        links.facts[role] = facts


def _filled(links: Links, config: ConfigT, *, where: str) -> ConfigT:
    """Return the config with its linked fields taken from the facts known so far."""
    updates: dict[str, Any] = {}
    for field_name, source in config.links().items():
        role, _, fact = source.partition(".")
        given = getattr(config, field_name)
        if role not in links.facts:
            if not given and role not in links.unknown:
                links.unfilled.append(_absent(where, field_name, source, role))
            continue
        if not hasattr(links.facts[role], fact):
            raise PluginError(
                f"{links.registry.described(config)} links {field_name} to {source}, but "
                f"{type(links.facts[role]).__name__} has no {fact}. Report it to the authors of that plugin"
            )
        value = getattr(links.facts[role], fact)
        links.checked.add((where, source))
        if not given:
            updates[field_name] = value
        elif given != value:
            links.conflicts.append(
                f"{where}.{field_name} is {given}, but the {role} has {fact} {value}. "
                f"Leave {where}.{field_name} out to take it from the {role}."
            )
    if not updates:
        return config
    try:
        # What is still open keeps its default, which explicit validation would refuse.
        values = {key: value for key, value in config if value or key not in config.links()}
        return type(config).model_validate({**values, **updates})
    except ValidationError as error:
        shown = f"{where}.{config.registered_name()}"
        problems = config_problems(error, type(config), where=shown)
        links.unfilled += [str(problem) for problem in problems]
        return config


def _absent(where: str, field_name: str, source: str, role: Role) -> str:
    way_out = f"Add a `{role}:` block"
    if role in CODEC_ROLES:
        way_out += ", name a trained codec with `codec: {checkpoint: …}`"
    return (
        f"{where}.{field_name} is taken from {source}, but the recipe has no {role}. "
        f"{way_out}, or give {where}.{field_name}."
    )
