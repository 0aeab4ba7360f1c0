"""The `config.json` of a checkpoint folder: whose format it is, and which parts it names.

Free of torch and of weights, so that recipes can be checked against checkpoints in an instant.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from wavslm_core.config_blocks import config_from_dict
from wavslm_core.configs import CODEC_ROLES, LANGUAGE_ROLES, FormatConfig, PartConfig, Role
from wavslm_core.errors import CheckpointError
from wavslm_core.registry import Registry

CONFIG_FILE = "config.json"
Kind = Literal["codec", "speech_lm"]
WORDS: dict[Kind, str] = {"codec": "codec", "speech_lm": "language model"}
OUR_FORMATS: dict[str, Kind] = {"wavslm-codec": "codec", "wavslm-speech-lm": "speech_lm"}
VERSION = 1
ROLES: dict[Kind, tuple[Role, ...]] = {
    "codec": CODEC_ROLES,
    "speech_lm": LANGUAGE_ROLES,
}
"""Roles that a folder of each kind names."""


def read_document(folder: Path) -> dict[str, Any]:
    """Return the folder's `config.json`. Raises: CheckpointError."""
    path = folder / CONFIG_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} holds no {CONFIG_FILE}; is it a checkpoint folder?") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is no readable JSON: {error}. Fetch or save it again") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} must hold a JSON object, not {type(document).__name__}")
    return document


def inside_run(folder: Path, kind: Kind) -> Path:
    """Return the `codec` or `speech_lm` folder inside a run's folder; any other folder itself.

    Raises: CheckpointError for a run that has the other of the two only.
    """
    held = [each for each in WORDS if (folder / each).is_dir()]
    if (folder / CONFIG_FILE).exists() or not held:
        return folder
    if kind not in held:
        raise CheckpointError(
            f"{folder} holds a {WORDS[held[0]]}, but no {WORDS[kind]} yet. Let the run train it, or name "
            "another folder"
        )
    return folder / kind


def formats(registry: Registry) -> list[FormatConfig]:
    """Return every registered checkpoint format of other projects."""
    return [cast(FormatConfig, config_class()) for config_class in registry.config_classes("format")]


def recognise(
    document: dict[str, Any], *, kind: Kind, source: str, registry: Registry
) -> FormatConfig | None:
    """Return the format that a document is in, None for our own.

    Raises: CheckpointError when no format knows it, or when it does not hold a `kind`.
    """
    ours = OUR_FORMATS.get(str(document.get("format")))
    held, found = ours, None
    if held is None:
        for config in formats(registry):
            held = config.holds(document)
            if held is not None:
                found = config
                break
    if held is None:
        known = ", ".join([*OUR_FORMATS, *registry.names("format")])
        raise CheckpointError(
            f"{source} is in no known checkpoint format (known: {known}). Install the plugin that reads it"
        )
    if held != kind:
        raise CheckpointError(f"{source} holds a {WORDS[held]}, but a {WORDS[kind]} is needed here")
    if ours is not None and document.get("version") != VERSION:
        raise CheckpointError(
            f"{source} is version {document.get('version')} of its format, this release reads version "
            f"{VERSION}. Update wavslm-core"
        )
    return found


def our_part_configs(
    document: Mapping[str, Any], *, kind: Kind, source: str, registry: Registry
) -> dict[Role, PartConfig]:
    """Return role → config for the parts that a document in our own format names.

    Raises: CheckpointError for a damaged document; RecipeError for parts or options that are unknown.
    """
    parts = document.get("parts")
    parts = parts if isinstance(parts, dict) else {}
    missing = [role for role in ROLES[kind] if role not in parts]
    if missing:
        raise CheckpointError(f"{source} names no {', no '.join(missing)}. Save it again")
    return {
        role: cast(
            PartConfig, config_from_dict(role, parts[role], where=f"{source}: {role}", registry=registry)
        )
        for role in ROLES[kind]
    }
