"""Codecs, language models and encoders as folders: ours, or another project's through a registered format."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor

from wavslm_core.errors import CheckpointError, WavslmError, summary
from wavslm_core.model import weights as checkpoint_io
from wavslm_core.model.documents import (
    BESIDE_FILE,
    CONFIG_FILE,
    OUR_FORMATS,
    VERSION,
    held_models,
    inside_run,
    our_part_configs,
    read_document,
    recognise,
)
from wavslm_core.model.references import find_folder
from wavslm_core.model.weight_files import WEIGHTS_FILE, read_folder
from wavslm_core.parts.blocks import config_from_dict
from wavslm_core.parts.checkpoints import Kind
from wavslm_core.parts.configs import Config, FormatConfig, PartConfig, Role
from wavslm_core.parts.interfaces import CheckpointFormat, CheckpointParts, Encoder
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import MEND, Registry

logger = logging.getLogger(__name__)

FAILS = "fails"
"""How the reason of a format begins that is broken, not just made for other parts."""


def load_parts(reference: str | Path, *, kind: Kind) -> CheckpointParts:
    """Read the configs and state dicts of a folder, a run's folder, a registered name, or a hub id.

    A codec that is named by a relative path is meant relative to the folder; that of a run that has only a
    language model is the one which the model names. Raises: CheckpointError, PluginError, RecipeError.
    """
    registry = load_registry()
    folder = find_folder(reference, kind=kind)
    held = held_models(folder)
    if kind == "codec" and "speech_lm" in held and "codec" not in held:
        named = load_parts(folder, kind="speech_lm").codec
        if named is not None:
            return load_parts(named, kind="codec")
    folder = inside_run(folder, kind)
    document = read_document(folder)
    format_config = recognise(document, kind=kind, source=str(folder), registry=registry)
    if format_config is None:
        parts = _read_ours(folder, document, kind)
    else:
        reader: CheckpointFormat = registry.build(format_config)
        parts = _with_beside(_read_other(reader, folder, registry), folder)
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


def save_parts(folder: Path, parts: CheckpointParts, *, kind: Kind, dtype: torch.dtype | None = None) -> str:
    """Write a folder, in another project's format when it holds exactly these parts, else in ours.

    `dtype` is the type of float to store, instead of what weights have. Returns which format and why, in one
    line; it is logged too. A format that fails is named in a warning and done without: our own holds any
    part. Raises: CheckpointError; what was there before then stays.
    """
    registry = load_registry()
    if dtype is not None:
        states = {
            role: checkpoint_io.rounded(state, dtype, source=f"the {role}")
            for role, state in parts.states.items()
        }
        parts = replace(parts, states=states)
    reasons: list[str] = []
    for config_class in registry.config_classes("format"):
        described = registry.entry("format", config_class.registered_name()).described
        reason = _write_theirs(folder, parts, config_class, registry)
        if reason is None:
            return _said(folder, f"in {described}, which holds its parts")
        reasons.append(f"{described} {reason}")
        if reason.startswith(FAILS):
            logger.warning("%s: %s", folder, reasons[-1])
    checkpoint_io.write_folder(folder, lambda path: _write_ours(path, parts, kind))
    return _said(folder, f"in our own format: {'; '.join(reasons) or 'no plugin brings another one'}")


def save_encoder(folder: Path, encoder: Encoder[Any]) -> None:
    """Write an encoder alone, in our own format. Raises: CheckpointError; what was there then stays."""
    parts = CheckpointParts({"encoder": encoder.config}, {"encoder": encoder.state_dict()})
    checkpoint_io.write_folder(folder, lambda path: _write_ours(path, parts, "encoder"))


def load_encoder(reference: str | Path, *, device: torch.device | str | None = None) -> Encoder[Any]:
    """Load the encoder that `save_encoder` wrote, or the one in a run's folder, in eval mode.

    Raises: CheckpointError, PluginError.
    """
    parts = load_parts(reference, kind="encoder")
    (encoder,) = loaded_parts(parts, ["encoder"], source=str(reference))
    return cast("Encoder[Any]", encoder.to(device or "cpu").eval())


def encoder_parts(reference: str | Path) -> tuple[PartConfig, dict[str, Tensor]] | None:
    """Return config and weights of an encoder alone, for an encoder that starts from one.

    None: the folder is in a format of others. Raises: CheckpointError.
    """
    folder = find_folder(reference)
    inner = folder if (folder / CONFIG_FILE).exists() else folder / "encoder"
    if not (inner / CONFIG_FILE).exists() or str(read_document(inner).get("format")) not in OUR_FORMATS:
        return None
    parts = load_parts(inner, kind="encoder")
    return parts.configs["encoder"], parts.states["encoder"]


def _said(folder: Path, how: str) -> str:
    said = f"{folder} is saved {how}"
    logger.info("%s", said)
    return said


def _write_theirs(
    folder: Path, parts: CheckpointParts, config_class: type[Config], registry: Registry
) -> str | None:
    """Write another project's folder, or return why it cannot hold these parts, or how it fails."""
    try:
        config = cast(FormatConfig, config_class())
        document = config.document(parts.configs)
        if not isinstance(document, dict):
            return document or "cannot hold these parts"
        writer: CheckpointFormat = registry.build(config)
        beside = _beside(parts, config.part_configs(document))
    except Exception as error:
        return f"{FAILS}: {summary(error)}; {MEND}"

    def fill(path: Path) -> None:
        writer.write(path, parts)
        if beside:
            checkpoint_io.write_document(path, beside, name=BESIDE_FILE)

    try:
        checkpoint_io.write_folder(folder, fill)
    except (WavslmError, OSError, SafetensorError):
        raise
    except Exception as error:
        return f"{FAILS} to write: {summary(error)}; {MEND}"
    return None


def _beside(parts: CheckpointParts, held: Mapping[Role, PartConfig]) -> dict[str, Any]:
    """Return what is to be kept beside a folder that gives the configs `held`."""
    beside: dict[str, Any] = {}
    sampler = parts.configs.get("sampler")
    if sampler is not None and held.get("sampler") != sampler:
        beside["sampler"] = sampler.model_dump(mode="json")
    if parts.codec_fingerprint is not None:
        beside["codec_fingerprint"] = parts.codec_fingerprint
    return beside


def _with_beside(parts: CheckpointParts, folder: Path) -> CheckpointParts:
    """Add what `save_parts` left beside a folder of another project's."""
    if not (folder / BESIDE_FILE).exists():
        return parts
    beside = read_document(folder, name=BESIDE_FILE)
    configs = dict(parts.configs)
    if "sampler" in beside:
        where = f"{folder / BESIDE_FILE}: sampler"
        configs["sampler"] = cast(PartConfig, config_from_dict("sampler", beside["sampler"], where=where))
    fingerprint = beside.get("codec_fingerprint", parts.codec_fingerprint)
    if fingerprint is not None and not isinstance(fingerprint, dict):
        raise CheckpointError(f"{folder / BESIDE_FILE}: codec_fingerprint must be an object. Save it again")
    return replace(parts, configs=configs, codec_fingerprint=fingerprint)


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
