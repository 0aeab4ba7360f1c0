"""When two runs have their first stages in common: everything that those depend on is the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from wavslm_core.parts.configs import Role
from wavslm_core.parts.roles import CODEC_ROLES
from wavslm_core.recipe.model import Recipe
from wavslm_core.recipe.places import place


@dataclass(frozen=True)
class StageIdentity:
    """A stage that leaves something for later ones, and what its results follow from."""

    name: str
    """Unique in its recipe."""
    leaves: tuple[str, ...]
    digest: str
    """Equal in two recipes exactly when the stage computes the same in both."""
    places: tuple[str, ...] = field(compare=False)
    """Where in the run's folder each of `leaves` is."""
    kept: bool = field(compare=False)
    """Nothing that was left by then can be replaced by a later stage: a finished run still has it."""


def stage_identities(recipe: Recipe) -> tuple[StageIdentity, ...]:
    """Return the first stages of a resolved recipe whose results another run could take over.

    A stage follows from its options, from the stages before it that leave anything, the data, the seed, and
    the parts that any of them needs. What comes after a stage that does not state what it leaves depends on
    everything, so the list ends there.
    """
    identities: list[StageIdentity] = []
    chain: list[dict[str, Any]] = []
    needed: set[Role] = set()
    for number, (name, config) in enumerate(recipe.named_stages(), start=1):
        left = config.leaves()
        if left is None:
            break
        leaves = tuple(left)
        if not leaves:
            continue
        chain.append(config.model_dump(mode="json", exclude={"launch"}))
        needed |= {*config.needs, *config.trains}
        places = tuple(place(recipe, path, stage=name) for path in leaves)
        kept = all(stage.leaves() is not None for stage in recipe.stages[number:])
        identities.append(StageIdentity(name, leaves, _digest(recipe, chain, needed), places, kept))
    return tuple(identities)


def _digest(recipe: Recipe, chain: list[dict[str, Any]], needed: set[Role]) -> str:
    parts = {role: part.model_dump(mode="json") for role, part in recipe.parts().items() if role in needed}
    codec = recipe.codec if needed & set(CODEC_ROLES) else None
    document = {
        "stages": chain,
        "parts": parts,
        "codec": None if codec is None else codec.model_dump(mode="json"),
        "data": None if recipe.data is None else recipe.data.to_dict(),
        "seed": recipe.seed,
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
