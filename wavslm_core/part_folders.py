"""Codecs and language models as folders: ours, or another project's through a registered format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from wavslm_core import checkpoint_io
from wavslm_core.checkpoint_documents import (
    CONFIG_FILE,
    OUR_FORMATS,
    VERSION,
    Kind,
    first_format,
    inside_run,
    our_part_configs,
    read_document,
    recognise,
)
from wavslm_core.configs import Role
from wavslm_core.errors import CheckpointError, WavslmError, summary
from wavslm_core.interfaces import CheckpointFormat, CheckpointParts
from wavslm_core.plugins import load_registry
from wavslm_core.registry import Registry
from wavslm_core.weight_files import WEIGHTS_FILE, read_folder


def load_parts(reference: str | Path, *, kind: Kind) -> CheckpointParts:
    """Read the configs and state dicts of a folder, a run's folder, or a hub id.

    A codec that is named by a relative path is meant relative to the folder.
    Raises: CheckpointError, PluginError, RecipeError.
    """
    registry = load_registry()
    folder = inside_run(checkpoint_io.find_folder(reference), kind)
    document = read_document(folder)
    format_config = recognise(document, kind=kind, source=str(folder), registry=registry)
    if format_config is None:
        parts = _read_ours(folder, document, kind)
    else:
        reader: CheckpointFormat = registry.build(format_config)
        parts = _read_other(reader, folder, registry)
    if parts.codec is not None and parts.codec.startswith("."):
        return replace(parts, codec=str((folder / parts.codec).resolve()))
    return parts


def loaded_parts(parts: CheckpointParts, roles: Sequence[Role], *, source: str) -> list[Any]:
    """Build the parts of some roles and load their weights. Raises: CheckpointError, PluginError."""
    registry = load_registry()
    return [
        checkpoint_io.load_part(
            partial(registry.build, parts.configs[role]),
            parts.states.get(role, {}),
            source=f"the {role} in {source}",
        )
        for role in roles
    ]


def save_parts(folder: Path, parts: CheckpointParts, *, kind: Kind) -> None:
    """Write a folder, in another project's format when it holds exactly these parts, else in ours.

    Raises: CheckpointError; what was there before then stays.
    """
    registry = load_registry()
    answered = first_format(registry, lambda config: config.document(parts.configs))
    if not isinstance(answered, str):
        writer: CheckpointFormat = registry.build(answered[0])
        checkpoint_io.write_folder(folder, partial(writer.write, parts=parts))
        return
    # A format that failed is passed over in silence: our own format holds any part.
    checkpoint_io.write_folder(folder, lambda path: _write_ours(path, parts, kind))


def _read_ours(folder: Path, document: dict[str, Any], kind: Kind) -> CheckpointParts:
    configs = our_part_configs(document, kind=kind, source=str(folder), registry=load_registry())
    weights = read_folder(folder, WEIGHTS_FILE)
    states: dict[Role, dict[str, Tensor]] = {role: {} for role in configs}
    for key, value in weights.items():
        role, _, name = key.partition(".")
        if role not in states:
            raise CheckpointError(
                f"{folder} holds the weight {key}, which belongs to none of its parts "
                f"({', '.join(configs)}). Save it again"
            )
        states[role][name] = value
    codec, fingerprint = document.get("codec"), document.get("codec_fingerprint")
    if not isinstance(codec, str | None) or not isinstance(fingerprint, dict | None):
        raise CheckpointError(
            f"{folder / CONFIG_FILE} names its codec by {str(codec)[:100]} and {str(fingerprint)[:100]}, but "
            "that must be a text and an object. Save it again"
        )
    return CheckpointParts(configs, states, codec, fingerprint)


def _read_other(reader: CheckpointFormat, folder: Path, registry: Registry) -> CheckpointParts:
    try:
        return reader.read(folder)
    except (WavslmError, MemoryError):
        raise
    except Exception as error:
        raise CheckpointError(
            f"{folder} cannot be read: {registry.described(reader.config)} fails: {summary(error)}. Check "
            "that the folder is whole, or report it to the authors of that plugin; --traceback shows where"
        ) from error


def _write_ours(folder: Path, parts: CheckpointParts, kind: Kind) -> None:
    document = {
        "format": next(name for name, held in OUR_FORMATS.items() if held == kind),
        "version": VERSION,
        "parts": {role: config.model_dump(mode="json") for role, config in parts.configs.items()},
    }
    if kind == "speech_lm":
        document |= {"codec": parts.codec, "codec_fingerprint": parts.codec_fingerprint}
    checkpoint_io.write_document(folder, document)
    weights = {f"{role}.{key}": value for role, state in parts.states.items() for key, value in state.items()}
    checkpoint_io.write_weights(folder, weights)
