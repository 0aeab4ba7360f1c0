"""What names a checkpoint: a folder, a name under which a plugin brings one, or a hub id; in this order.

Free of torch, and of the network but for `find_folder`, so that recipes can be checked against checkpoints in
an instant.
"""

from __future__ import annotations

import logging
from pathlib import Path

from wavslm_core.errors import CheckpointError, did_you_mean, nearest
from wavslm_core.model.documents import CONFIG_FILE, is_hub_id
from wavslm_core.parts.checkpoints import NAME, Checkpoint, Kind, one
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import Registry, how_to_install, known_providers

logger = logging.getLogger(__name__)


FETCHED = ["*.json", "*.safetensors", "*.bin", "*.pt", "*.ckpt", "*.yaml"]
"""Files of a hub repository that are downloaded."""


def find_folder(reference: str | Path, *, kind: Kind = "encoder") -> Path:
    """Return the local folder for a path, a name that a plugin registered, or a hub id.

    `kind` is what a name must stand for; what a part takes its initial weights from is an encoder. Hub ids
    are downloaded (or found in the hub's cache) by huggingface-hub. A folder is taken before a checkpoint of
    its name, and a warning says so. Raises: CheckpointError when it is none of them.
    """
    registry, text = load_registry(), str(reference)
    folder = Path(reference).expanduser()
    if folder.is_dir():
        hidden = registry.checkpoint(text, kind)
        if hidden is not None:
            logger.warning(
                "'%s' is taken for the folder %s, not for %s of %s; rename the folder to have that",
                text,
                folder.resolve(),
                one(kind),
                hidden.origin,
            )
        return folder
    found = registered(text, registry, kind=kind)
    if found is not None:
        return found.folder
    if folder.exists():
        raise CheckpointError(f"'{text}' is a file; give the folder that holds {CONFIG_FILE} and the weights")
    if not is_hub_id(text):
        raise CheckpointError(unknown(text, registry, kind=kind))
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(text, allow_patterns=FETCHED))
    except Exception as error:
        raise CheckpointError(
            f"'{text}' is no local folder and could not be fetched from the hub "
            f"({type(error).__name__}). Check the name and the network, or give a folder that holds it"
        ) from error


def local_folder(reference: str, registry: Registry, *, kind: Kind) -> Path | None:
    """Return the folder as `find_folder` does, without the network; None when there is none yet.

    Raises: CheckpointError for a registered name that stands for something else than a `kind`.
    """
    folder = Path(reference).expanduser()
    if folder.is_dir():
        return folder
    found = registered(reference, registry, kind=kind)
    return found.folder if found is not None else _cached(reference)


def registered(reference: str, registry: Registry, *, kind: Kind) -> Checkpoint | None:
    """Return the checkpoint that a plugin registered under a name, if any did.

    Raises: CheckpointError when what has the name is of other kinds.
    """
    found = registry.checkpoint(reference, kind)
    others = [other for other in registry.checkpoints() if other.name == reference]
    if found is None and others:
        held = " and ".join(f"{one(other.kind)} of {other.origin}" for other in others)
        raise CheckpointError(
            f"'{reference}' is {held}, but {one(kind)} is needed here. {_installed(registry, kind)}"
        )
    return found


def unknown(reference: str, registry: Registry, *, kind: Kind) -> str:
    """Return the message for what is no folder, no registered name and no hub id."""
    folder = f"a folder that holds {CONFIG_FILE}, or a hub id: owner/name"
    if not NAME.fullmatch(reference):
        return f"no folder '{reference}' exists. Check the path, or give {folder}"
    providers = known_providers("checkpoint")
    names = [checkpoint.name for checkpoint in registry.checkpoints(kind)]
    near = reference if reference in providers else nearest(reference, {*names, *providers})
    message = f"no folder '{reference}' exists, and no installed plugin brings a checkpoint of that name."
    if reference not in providers:
        message += did_you_mean(reference, {*names, *providers})
    if near in providers and near not in names:
        message += f" '{near}' comes with {providers[near]}{how_to_install(providers[near])}."
    give = "Give one of them," if names else "Give"
    return f"{message} {_installed(registry, kind)} {give} {folder}{registry.failures()}"


def _installed(registry: Registry, kind: Kind) -> str:
    """Return which names there are to give instead, as a sentence."""
    names = [f"{checkpoint.name} ({checkpoint.origin})" for checkpoint in registry.checkpoints(kind)]
    return f"There are: {', '.join(names)}." if names else f"No installed plugin brings {one(kind)}."


def _cached(hub_id: str) -> Path | None:
    """Return the folder of a hub id in the local cache."""
    if not is_hub_id(hub_id):
        return None
    from huggingface_hub import constants

    # Looking for the folder first: the rest of huggingface-hub takes a quarter of a second to import.
    folder = Path(constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}"
    if not folder.is_dir():
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_id, CONFIG_FILE)
    return Path(found).parent if isinstance(found, str) else None
