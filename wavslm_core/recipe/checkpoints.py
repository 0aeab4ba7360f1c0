"""What a codec checkpoint holds, told from its `config.json` alone: no weights, no torch, no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wavslm_core.checkpoint_documents import (
    CONFIG_FILE,
    first_format,
    format_part_configs,
    inside_run,
    our_part_configs,
    read_document,
    recognise,
)
from wavslm_core.configs import PartConfig, Role
from wavslm_core.errors import CheckpointError
from wavslm_core.registry import Registry


def codec_configs(checkpoint: str, registry: Registry) -> dict[Role, PartConfig]:
    """Return role → config for a folder, a hub id in the local cache, or a well-known hub id.

    Raises: CheckpointError, RecipeError.
    """
    document = _document(checkpoint, registry)
    found = recognise(document, kind="codec", source=checkpoint, registry=registry)
    if found is None:
        return our_part_configs(document, kind="codec", source=checkpoint, registry=registry)
    return format_part_configs(found, document, source=checkpoint, registry=registry)


def _document(checkpoint: str, registry: Registry) -> dict[str, Any]:
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        return read_document(inside_run(folder, "codec"))
    cached = _cached(checkpoint)
    if cached is not None:
        return read_document(cached)
    answered = first_format(registry, lambda config: config.known_document(checkpoint))
    if not isinstance(answered, str):
        return answered[1]
    message = (
        f"'{checkpoint}' is neither a folder, nor in the local hub cache, nor a hub id that a plugin knows."
    )
    if _is_hub_id(checkpoint):
        message += f" Check the path, or download it first: hf download {checkpoint}"
    else:
        message += " Check the path."
    lacking = registry.not_installed("format")
    raise CheckpointError(f"{message}{lacking}{answered}{registry.failures()}")


def _is_hub_id(checkpoint: str) -> bool:
    return checkpoint.count("/") == 1 and not checkpoint.startswith((".", "/", "~"))


def _cached(hub_id: str) -> Path | None:
    """Return the folder of a hub id in the local cache."""
    if not _is_hub_id(hub_id):
        return None
    from huggingface_hub import constants

    # Looking for the folder first: the rest of huggingface-hub takes a quarter of a second to import.
    folder = Path(constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}"
    if not folder.is_dir():
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_id, CONFIG_FILE)
    return Path(found).parent if isinstance(found, str) else None
