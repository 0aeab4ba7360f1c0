"""One recipe on top of another, and overrides from the command line: `stages.train_lm.steps=100`.

Blocks merge, lists replace, a block of another kind starts afresh. The second stage of a kind is
`stages.evaluate_2`, as in the run; the first of several is named by its place, `stages.0`.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wavslm_core.errors import RecipeError, did_you_mean
from wavslm_core.parts.blocks import Place
from wavslm_core.parts.configs import AUGMENT, SPLITS
from wavslm_core.recipe.model import stage_names
from wavslm_core.recipe.yaml import parse_yaml

TAGS = ("name", "corpus", "run", "on")
"""Keys that say what a block is. When one changes, what else was in the block means nothing any more."""


def merged(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with the recipe `top` laid over it. Neither is changed."""
    result = dict(base)
    for key, value in top.items():
        below = result.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            result[key] = _merged_data(below, value) if key == "data" else _merged_block(below, value)
        else:
            result[key] = value
    return result


def _merged_data(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Return `data:` blocks merged; what is said beside the corpora stays whatever becomes of these."""
    below, above = ({key: block[key] for key in block if key != AUGMENT} for block in (base, top))
    beside = merged(*({key: block[key] for key in block if key == AUGMENT} for block in (base, top)))
    return (above if _other_shape(below, above) else _merged_block(below, above)) | beside


def _merged_block(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    return top if changes_kind(base, top) else merged(base, top)


def changes_kind(base: dict[str, Any], top: dict[str, Any]) -> bool:
    """Tell whether `top` makes of the block `base` something else."""
    return any(base.get(key) is not None and key in top and top[key] != base[key] for key in TAGS)


def _other_shape(base: dict[str, Any], top: dict[str, Any]) -> bool:
    """Tell whether `top` goes from one corpus for all splits to one for each, or back."""
    to_one = "corpus" in top and "corpus" not in base
    to_many = (
        "corpus" in base and "corpus" not in top and any(isinstance(value, dict) for value in top.values())
    )
    return to_one or to_many


@dataclass(frozen=True)
class Override:
    """One `key=value` argument."""

    text: str
    keys: tuple[str, ...]
    value: Any


def parse_override(text: str) -> Override:
    """Return the override that an argument stands for. Raises: RecipeError."""
    key, separator, value = text.partition("=")
    keys = tuple(key.strip().split("."))
    if not separator or not all(keys):
        raise RecipeError(
            f"the argument '{_shortened(text)}' is no override. Write key=value with dots between keys, "
            "such as stages.train_lm.steps=100."
        )
    if keys[0] == "extends":
        raise RecipeError("`extends` cannot be overridden. Give that recipe's path instead.")
    short = _shortened(text)
    return Override(short, keys, parse_yaml(value, source=f"override '{short}'"))


def _shortened(text: str, most: int = 500) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def apply_overrides(
    document: dict[str, Any], overrides: Sequence[Override]
) -> tuple[dict[str, Any], dict[Place, str]]:
    """Return the document with the overrides applied, and where each one went.

    What says which kind a block is goes first, whatever the order of the arguments, so that the values for
    the new kind are kept. Raises: RecipeError for an override that matches nothing.
    """
    result = copy.deepcopy(document)
    places: dict[Place, str] = {}
    for override in sorted(overrides, key=_is_value):
        places[_apply(result, override)] = override.text
    return result, places


def _is_value(override: Override) -> bool:
    return not (len(override.keys) > 1 and override.keys[-1] in TAGS)


def _apply(document: dict[str, Any], override: Override) -> Place:
    *parents, last = override.keys
    place: list[str | int] = []
    block: Any = document
    for key in parents:
        step = _step(block, key, place, override)
        if isinstance(block, dict) and block.get(step) is None:
            if not place and key == "data":
                block[step] = {}
            elif place == ["data"] and "corpus" in block and key in SPLITS:
                # One corpus served all splits; now each split names its own.
                for other in [other for other in block if other != AUGMENT]:
                    del block[other]
            block[step] = {}
        place.append(step)
        block = block[step]
    step = _step(block, last, place, override)
    if isinstance(block, dict) and last in TAGS and place:
        fresh = {last: override.value}
        was = dict(block)
        block.clear()
        block.update(merged({"data": was}, {"data": fresh})["data"])
    else:
        block[step] = override.value
    return (*place, step)


def _step(block: Any, key: str, place: list[str | int], override: Override) -> str | int:
    """Return the key or index that one dotted piece means inside `block`."""
    if isinstance(block, dict):
        return key
    where = ".".join(map(str, place))
    if not isinstance(block, list):
        raise RecipeError(
            f"override '{override.text}': {where} is {block!r}, not a block, so nothing in it can be set."
        )
    if key.lstrip("-").isdigit():
        index = int(key)
        if not 0 <= index < len(block):
            raise RecipeError(
                f"override '{override.text}': {where} has {len(block)} entries, numbered from 0."
            )
        return index
    names = [_name(entry) for entry in block]
    matches = [index for index, name in enumerate(names) if name == key]
    if len(matches) == 1:
        return matches[0]
    # As the run calls stages of one kind: the second is `evaluate_2`.
    unique = stage_names(names) if place == ["stages"] else names
    if matches:
        first, *others = matches
        which = [str(first), *(unique[index] if unique[index] != key else str(index) for index in others)]
        raise RecipeError(
            f"override '{override.text}': {where} has {len(matches)} entries called '{key}'. "
            f"Say which one: {', '.join(f'{where}.{entry}' for entry in which)}."
        )
    if unique.count(key) == 1:
        return unique.index(key)
    known = [name for name in names if name]
    raise RecipeError(
        f"override '{override.text}': no entry of {where} is called '{key}'.{did_you_mean(key, known)} "
        + (f"There are: {', '.join(known)}." if known else "It has no entries that have names.")
    )


def _name(entry: Any) -> str:
    if not isinstance(entry, dict):
        return ""
    return next((str(entry[key]) for key in TAGS if entry.get(key) is not None), "")
