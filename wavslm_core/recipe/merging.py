"""One recipe on top of another: blocks merge, lists replace, a block of another kind starts afresh."""

from __future__ import annotations

from typing import Any

DISCRIMINATORS = ("name", "corpus", "run", "on")
"""Keys that say what a block is. When one changes, the other keys of the old block mean nothing any more."""


def merged(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with the recipe `top` laid over it. Neither is changed."""
    result = dict(base)
    for key, value in top.items():
        below = result.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            result[key] = (
                value if key == "data" and _other_shape(below, value) else _merged_block(below, value)
            )
        else:
            result[key] = value
    return result


def _merged_block(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    return top if changes_kind(base, top) else merged(base, top)


def changes_kind(base: dict[str, Any], top: dict[str, Any]) -> bool:
    """Tell whether `top` makes of the block `base` something else."""
    return any(base.get(key) is not None and key in top and top[key] != base[key] for key in DISCRIMINATORS)


def _other_shape(base: dict[str, Any], top: dict[str, Any]) -> bool:
    """Tell whether `top` goes from one corpus for all splits to one for each, or back."""
    to_one = "corpus" in top and "corpus" not in base
    to_many = (
        "corpus" in base and "corpus" not in top and any(isinstance(value, dict) for value in top.values())
    )
    return to_one or to_many
