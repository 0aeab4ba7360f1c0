"""What a codec checkpoint holds, told from its `config.json` alone: no weights, no torch, no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from wavslm_core.configs import FormatConfig, PartConfig, Role
from wavslm_core.errors import CheckpointError, RecipeError
from wavslm_core.registry import Registry

OUR_CODEC = "wavslm-codec"
VERSION = 1


def codec_configs(checkpoint: str, registry: Registry) -> dict[Role, PartConfig]:
    """Return role → config for a folder, a hub id in the local cache, or a well-known hub id.

    Raises: CheckpointError, RecipeError.
    """
    document, source = _document(checkpoint, registry)
    if document.get("format") == OUR_CODEC:
        return _our_parts(document, source, registry)
    for config in _formats(registry):
        held = config.holds(document)
        if held == "codec":
            return config.part_configs(document)
        if held is not None:
            raise CheckpointError(f"{source} holds a language model. Name the folder of a codec.")
    formats = ", ".join([OUR_CODEC, *registry.names("format")])
    raise CheckpointError(
        f"{source} is of no known codec format. Known: {formats}. Install the plugin that reads it."
    )


def _document(checkpoint: str, registry: Registry) -> tuple[dict[str, Any], str]:
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        return _read(folder / "config.json"), str(folder)
    cached = _cached(checkpoint)
    if cached is not None:
        return _read(cached), checkpoint
    for config in _formats(registry):
        document = config.known_document(checkpoint)
        if document is not None:
            return document, checkpoint
    message = (
        f"'{checkpoint}' is neither a folder, nor in the local hub cache, nor a hub id that a plugin knows."
    )
    if _is_hub_id(checkpoint):
        message += f" Check the path, or download it first: hf download {checkpoint}"
    else:
        message += " Check the path."
    for distribution, error in sorted(registry.load_errors.items()):
        message += f" (Plugin {distribution} failed to load: {type(error).__name__}: {error})"
    raise CheckpointError(message)


def _is_hub_id(checkpoint: str) -> bool:
    return checkpoint.count("/") == 1 and not checkpoint.startswith((".", "/", "~"))


def _cached(hub_id: str) -> Path | None:
    """Return the `config.json` of a hub id in the local cache."""
    if not _is_hub_id(hub_id):
        return None
    from huggingface_hub import constants

    # Looking for the folder first: the rest of huggingface-hub takes a quarter of a second to import.
    folder = Path(constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}"
    if not folder.is_dir():
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_id, "config.json")
    return Path(found) if isinstance(found, str) else None


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent} holds no config.json. Is it a checkpoint folder?") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is no readable JSON: {error}. Fetch or save it again.") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} must hold a JSON object, not a {type(document).__name__}.")
    return document


def _our_parts(document: dict[str, Any], source: str, registry: Registry) -> dict[Role, PartConfig]:
    from wavslm_core.recipe.loading import config_from_dict

    if document.get("version") != VERSION:
        raise CheckpointError(
            f"{source} is version {document.get('version')} of the format {OUR_CODEC}; this release reads "
            f"version {VERSION}. Update wavslm-core."
        )
    parts = document.get("parts")
    if not isinstance(parts, dict) or not {"encoder", "quantizer", "decoder"} <= parts.keys():
        raise RecipeError(f"{source}/config.json lacks an encoder, a quantizer or a decoder. Save it again.")
    return {
        role: cast(
            PartConfig, config_from_dict(role, parts[role], where=f"{source}: {role}", registry=registry)
        )
        for role in cast("list[Role]", ["encoder", "quantizer", "decoder"])
    }


def _formats(registry: Registry) -> list[FormatConfig]:
    return [cast(FormatConfig, config_class()) for config_class in registry.config_classes("format")]
