"""Options out of an official `config.json`, checked key by key and turned into registered configs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from wavslm_core.plugin import CheckpointError, PartConfig, Role, did_you_mean, load_registry
from wavslm_focalcodec_stream.official_names import HARMLESS_KEYS


def section(document: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> dict[str, Any]:
    """Return a copy of one part's options, without those that change no number."""
    options = document.get(key) or {}
    if not isinstance(options, dict):
        raise CheckpointError(f"{key} must be an object, not {type(options).__name__}")
    refuse_unknown(options, allowed, key)
    return {name: value for name, value in options.items() if name not in HARMLESS_KEYS}


def refuse_unknown(given: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
    """Raises: CheckpointError naming keys that the official release does not have."""
    unknown = [key for key in given if key not in allowed and key not in HARMLESS_KEYS]
    if unknown:
        raise CheckpointError(
            f"{where} has {len(unknown)} unknown key{'s' if len(unknown) > 1 else ''}: {', '.join(unknown)}."
            f"{did_you_mean(unknown[0], allowed)} Allowed: {', '.join(allowed)}. "
            "The checkpoint may need a newer release of wavslm-focalcodec-stream"
        )


def build(role: Role, name: str, options: Mapping[str, Any]) -> PartConfig:
    """Return a registered part's config. Raises: CheckpointError; PluginError when not installed."""
    config_class = load_registry().entry(role, name).config_class
    try:
        config = config_class.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([role, *(str(piece) for piece in first["loc"])])
        raise CheckpointError(
            f"config.json does not describe a {role} '{name}': {where}: {first['msg']} "
            f"(given: {first.get('input')!r}). Fetch or save it again"
        ) from None
    assert isinstance(config, PartConfig)
    return config
