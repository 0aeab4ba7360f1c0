"""Fills linked fields: facts flow from the encoder to the sampler, and each part takes what it needs.

A part may also take what a later one says of itself, such as a backbone the head's chunk: the later one is
then asked before its own linked fields are filled, and asked again once they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError

from wavslm_core.errors import PluginError, WavslmError, summary
from wavslm_core.parts.blocks import config_problems
from wavslm_core.parts.configs import Config, PartConfig, Role
from wavslm_core.parts.facts import PartFacts
from wavslm_core.parts.registry import Registry
from wavslm_core.parts.roles import CODEC_ROLES, PART_ROLES, ROLES
from wavslm_core.recipe.checkpoints import checkpoint_configs
from wavslm_core.recipe.model import Recipe, ResolvedRecipe

ConfigT = TypeVar("ConfigT", bound=Config)


def resolve(recipe: Recipe) -> ResolvedRecipe:
    """Return a recipe with every linked field filled in. Raises: RecipeError."""
    return resolved(recipe, link(recipe))


def resolved(recipe: Recipe, links: Links) -> ResolvedRecipe:
    """Return a recipe with what was linked. Raises: RecipeError with what could not be."""
    recipe.raise_problems(links.unfilled)
    values: dict[str, Any] = {name: getattr(recipe, name) for name in Recipe.model_fields}
    values |= {role: links.parts[role] for role in recipe.parts()} | {"stages": links.stages}
    found = ResolvedRecipe.model_construct(recipe.model_fields_set | {"stages"}, **values)
    found._source, found._document, found._registry = recipe.source, recipe.unvalidated(), recipe.registry
    found._part_configs, found._facts = links.parts, links.facts
    return found


@dataclass
class Links:
    """The parts of a recipe with their linked fields filled in, and what stood in the way."""

    registry: Registry
    given: dict[Role, PartConfig]
    parts: dict[Role, PartConfig] = field(default_factory=dict)
    stages: tuple[Any, ...] = ()
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

    def add(self, role: Role) -> None:
        """Fill in a part and ask for its facts."""
        config = self.given[role]
        name = config.registered_name()
        before = len(self.unfilled)
        config = self.filled(config, where=role)
        self.parts[role] = config
        unresolved = [field for field in config.links() if config.is_open(field)]
        if unresolved or len(self.unfilled) > before:
            self.unknown.add(role)
            return
        try:
            self.facts[role] = _facts(config)
        except WavslmError as error:
            self.unfilled.append(f"{role}.{name}: {error}")
            self.unknown.add(role)
        except Exception as error:
            self.unfilled.append(
                f"{role}.{name}: facts() of {self.registry.described(config)} fails: {summary(error)}. "
                "Change its options, or report it to the authors of that plugin"
            )
            self.unknown.add(role)

    def filled(self, config: ConfigT, *, where: str) -> ConfigT:
        """Return the config with its linked fields taken from the facts known so far."""
        updates: dict[str, Any] = {}
        for field_name, source in config.links().items():
            role, _, fact = source.partition(".")
            given = getattr(config, field_name)
            facts = self.facts_for(role)
            if facts is None:
                if config.is_open(field_name) and role not in self.unknown:
                    self.unfilled.append(self._absent(where, field_name, source))
                continue
            if not hasattr(facts, fact):
                raise PluginError(
                    f"{self.registry.described(config)} links {field_name} to {source}, but "
                    f"{type(facts).__name__} has no {fact}. Report it to the authors of that plugin"
                )
            value = getattr(facts, fact)
            self.checked.add((where, source))
            if config.is_open(field_name):
                updates[field_name] = value
            elif given != value and config.must_agree(field_name):
                self.conflicts.append(
                    f"{where}.{field_name} is {given}, but the {role} has {fact} {value}. "
                    f"Leave {where}.{field_name} out to take it from the {role}."
                )
        if not updates:
            return config
        try:
            # What is still open keeps its default, which explicit validation would refuse.
            values = {
                key: value for key, value in config if key not in config.links() or not config.is_open(key)
            }
            return type(config).model_validate({**values, **updates})
        except ValidationError as error:
            shown = f"{where}.{config.registered_name()}"
            self.unfilled += map(str, config_problems(error, type(config), where=shown))
            return config

    def facts_for(self, role: Role) -> PartFacts | None:
        """Return the facts of a part; of a later one, what it says before its linked fields are filled in."""
        if role in self.facts or role in self.parts or role not in self.given:
            return self.facts.get(role)
        try:
            return _facts(self.given[role])
        except Exception:
            # It is asked again, and told, when it is its turn; until then it cannot be built upon.
            return None

    def _absent(self, where: str, field_name: str, source: str) -> str:
        role = source.partition(".")[0]
        if role in self.given:
            return (
                f"{where}.{field_name} is taken from {source}, but the {role} cannot say it before it knows "
                f"what comes before it. Give {where}.{field_name}."
            )
        way_out = f"Add a `{role}:` block"
        if role in CODEC_ROLES:
            way_out += ", name a trained codec with `codec: {checkpoint: …}`"
        return (
            f"{where}.{field_name} is taken from {source}, but the recipe has no {role}. "
            f"{way_out}, or give {where}.{field_name}."
        )

    def later_links(self) -> Iterable[str]:
        """Yield what a part took from a later one that then said something else."""
        for role, config in self.parts.items():
            for field_name, source in config.links().items():
                other, _, fact = source.partition(".")
                later = other in PART_ROLES and PART_ROLES.index(other) > PART_ROLES.index(role)
                if not later or other not in self.facts or not self.given[role].is_open(field_name):
                    continue
                taken, said = getattr(config, field_name), getattr(self.facts[other], fact)
                if taken != said:
                    yield (
                        f"{role}.{field_name} is {taken}, taken from {source}, which is {said} once the "
                        f"{other} knows what comes before it. Give {role}.{field_name}."
                    )


def link(recipe: Recipe) -> Links:
    """Return the recipe's parts, linked. Never raises for what a user can mend: see `Links.unfilled`."""
    links = Links(recipe.registry, recipe.parts())
    if recipe.codec is not None:
        blocks = [role for role in CODEC_ROLES if role in links.given]
        if blocks:
            links.conflicts.append(
                f"codec.checkpoint and the {' and '.join(blocks)} block are both given. Keep the "
                f"checkpoint or the blocks; in a recipe that extends another, `codec: null` or "
                f"`{blocks[0]}: null` removes one."
            )
        try:
            links.given |= checkpoint_configs(recipe.codec.checkpoint, recipe.registry, kind="codec")
        except WavslmError as error:
            links.unfilled.append(f"codec.checkpoint: {error}")
            links.given = {role: part for role, part in links.given.items() if role not in CODEC_ROLES}
            links.unknown.update(CODEC_ROLES)
    for role in PART_ROLES:
        if role in links.given:
            links.add(role)
    links.unfilled += links.later_links()
    links.stages = tuple(
        links.filled(stage, where=f"stages.{stage.registered_name()}") for stage in recipe.stages
    )
    return links


def _facts(config: PartConfig) -> PartFacts:
    """Return what a config states. Raises: TypeError when these are no facts of its role."""
    facts, wanted = config.facts(), ROLES[config.role].facts
    if wanted is not None and not isinstance(facts, wanted):
        raise TypeError(f"it returns {type(facts).__name__}, not {wanted.__name__}")
    return facts
