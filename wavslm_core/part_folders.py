"""Codecs and language models as folders: ours, or another project's through a registered format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from torch import Tensor

from wavslm_core import checkpoint_io
from wavslm_core.configs import FormatConfig, PartConfig, Role
from wavslm_core.errors import CheckpointError
from wavslm_core.interfaces import CheckpointFormat, CheckpointParts
from wavslm_core.plugins import load_registry

Kind = Literal["codec", "speech_lm"]

OUR_FORMATS: dict[str, Kind] = {"wavslm-codec": "codec", "wavslm-speech-lm": "speech_lm"}
VERSION = 1


def load_parts(reference: str | Path, *, kind: Kind) -> CheckpointParts:
    """Read the configs and state dicts of a folder, a run's folder, or a hub id.

    A codec that is named by a relative path is meant relative to the folder.
    Raises: CheckpointError, PluginError.
    """
    folder = checkpoint_io.find_folder(reference)
    if not (folder / checkpoint_io.CONFIG_FILE).exists() and (folder / kind).is_dir():
        folder = folder / kind  # a run's folder: it holds `codec/` and `speech_lm/`
    document = checkpoint_io.read_document(folder)
    format_config = None if "format" in document else _recognise(document)
    held = (
        OUR_FORMATS.get(document.get("format", ""))
        if format_config is None
        else format_config.holds(document)
    )
    if held is None:
        known = ", ".join([*OUR_FORMATS, *load_registry().names("format")])
        raise CheckpointError(
            f"{folder / checkpoint_io.CONFIG_FILE} is of no known checkpoint format (known: {known}). "
            "Install the plugin that reads it"
        )
    if held != kind:
        raise CheckpointError(f"{folder} holds a {_words(held)}, but a {_words(kind)} is needed here")
    if format_config is not None:
        reader: CheckpointFormat = load_registry().build(format_config)
        parts = reader.read(folder)
    else:
        parts = _read_ours(folder, document)
    if parts.codec is not None and parts.codec.startswith("."):
        return replace(parts, codec=str((folder / parts.codec).resolve()))
    return parts


def save_parts(
    folder: Path, parts: CheckpointParts, *, kind: Kind, extra: Mapping[str, Any] | None = None
) -> None:
    """Write a folder, in another project's format when it holds exactly these parts, else in ours.

    `extra` goes into our `config.json`. Raises: CheckpointError; what was there before then stays.
    """
    for config_class in load_registry().config_classes("format"):
        format_config = config_class()
        if isinstance(format_config, FormatConfig) and format_config.document(parts.configs) is not None:
            writer: CheckpointFormat = load_registry().build(format_config)
            checkpoint_io.write_folder(folder, partial(writer.write, parts=parts))
            return
    checkpoint_io.write_folder(folder, lambda path: _write_ours(path, parts, kind, extra or {}))


def _recognise(document: dict[str, Any]) -> FormatConfig | None:
    for config_class in load_registry().config_classes("format"):
        config = config_class()
        if isinstance(config, FormatConfig) and config.holds(document) is not None:
            return config
    return None


def _read_ours(folder: Path, document: dict[str, Any]) -> CheckpointParts:
    if document.get("version") != VERSION:
        raise CheckpointError(
            f"{folder} was saved in version {document.get('version')} of the format, this release reads "
            f"version {VERSION}. Update wavslm-core"
        )
    configs = parse_parts(document.get("parts", {}), source=str(folder))
    weights = checkpoint_io.read_weights(folder / checkpoint_io.WEIGHTS_FILE)
    states: dict[Role, dict[str, Tensor]] = {role: {} for role in configs}
    for key, value in weights.items():
        role, _, name = key.partition(".")
        if role not in states:
            raise CheckpointError(f"{folder} holds the key {key}, which belongs to none of its parts")
        states[role][name] = value
    return CheckpointParts(configs, states, codec=document.get("codec"))


def parse_parts(parts: Mapping[str, Any], *, source: str) -> dict[Role, PartConfig]:
    """Return role → config for the `parts` of one of our `config.json` files. Imports no torch."""
    registry = load_registry()
    configs: dict[Role, PartConfig] = {}
    for role, options in parts.items():
        entry = registry.entry(role, str(options.get("name")))  # type: ignore[arg-type]
        try:
            config = entry.config_class.model_validate(options)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(piece) for piece in (role, *first["loc"]))
            raise CheckpointError(
                f"{source}: {where}: {first['msg']}. Was it saved by another version?"
            ) from None
        assert isinstance(config, PartConfig)
        configs[role] = config  # type: ignore[index]
    return configs


def _write_ours(folder: Path, parts: CheckpointParts, kind: Kind, extra: Mapping[str, Any]) -> None:
    name = next(name for name, held in OUR_FORMATS.items() if held == kind)
    document = {
        "format": name,
        "version": VERSION,
        "parts": {role: config.model_dump(mode="json") for role, config in parts.configs.items()},
        **extra,
    }
    checkpoint_io.write_document(folder, document)
    weights = {f"{role}.{key}": value for role, state in parts.states.items() for key, value in state.items()}
    checkpoint_io.write_weights(folder, weights)


def _words(kind: Kind) -> str:
    return {"codec": "codec", "speech_lm": "language model"}[kind]
