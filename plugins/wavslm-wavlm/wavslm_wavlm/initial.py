"""Initial weights from a complete WavLM: its lower layers for an encoder, its upper ones for a backbone."""

from __future__ import annotations

import re

import torch
from torch import nn

from wavslm_core.plugin import CheckpointError, SkipInitialisation, load_state
from wavslm_wavlm.config import WavLMConfig, WavLMUpperConfig
from wavslm_wavlm.weights import WavLMCheckpoint, read_wavlm

LAYER_KEY = re.compile(r"encoder\.layers\.(\d+)\.(.+)")
ENCODER_STYLE = (
    *("layer_norm_first", "front_end_norm", "hidden_dims", "kernel_sizes", "strides", "conv_bias"),
    *("dim", "ffn_dim", "num_heads", "num_buckets", "max_distance", "conv_pos", "conv_pos_groups"),
)
BACKBONE_STYLE = ("num_heads", "max_distance")


def wants_initial_weights() -> bool:
    """Return whether a part that is being built should read its `checkpoint`.

    Not on the meta device, and not while a saved model is loaded: its own weights follow, and the checkpoint
    that it once started from may be gone.
    """
    return not (torch.zeros(()).is_meta or SkipInitialisation.active())


def load_initial_encoder(encoder: nn.Module, config: WavLMConfig, reference: str) -> None:
    """Fill an encoder from the lowest layers of a WavLM. Raises: CheckpointError when it does not fit."""
    fill_encoder(encoder, config, read_wavlm(reference))


def fill_encoder(encoder: nn.Module, config: WavLMConfig, checkpoint: WavLMCheckpoint) -> None:
    """Fill an encoder from the lowest layers of a WavLM. Raises: CheckpointError naming what differs."""
    _check_style(config, checkpoint.config, ENCODER_STYLE, checkpoint.source)
    _check_layers(checkpoint.config.num_layers, 1, config.num_layers, checkpoint.source)
    state = {
        key: value
        for key, value in checkpoint.state.items()
        if not _is_layer_from(key, config.num_layers)
        and (config.has_norm or not key.startswith("encoder.norm."))
    }
    load_state(encoder, state, source=checkpoint.source)


def load_initial_backbone(backbone: nn.Module, config: WavLMUpperConfig, reference: str) -> None:
    """Fill a backbone from the upper layers of a WavLM. Raises: CheckpointError when it does not fit."""
    fill_backbone(backbone, config, read_wavlm(reference))


def fill_backbone(backbone: nn.Module, config: WavLMUpperConfig, checkpoint: WavLMCheckpoint) -> None:
    """Fill a backbone from layers `first_layer`… of a WavLM, its final norm and a copy of its bias table.

    An input projection or embedding table keeps its random weights; so does the norm where the WavLM ends
    without one. Raises: CheckpointError naming what differs.
    """
    reference = checkpoint.source
    if not checkpoint.config.layer_norm_first:
        raise CheckpointError(
            f"{reference} normalises after its layers (as WavLM-base does), wavlm_upper before them: "
            "give a large WavLM, such as microsoft/wavlm-large"
        )
    _check_style(config, checkpoint.config, BACKBONE_STYLE, reference)
    _check_layers(checkpoint.config.num_layers, config.first_layer, config.num_layers, reference)
    kept = ("embedding.", "input_proj.") + (() if checkpoint.config.final_norm else ("norm.",))
    state = {key: value for key, value in backbone.state_dict().items() if key.startswith(kept)}
    first = config.first_layer - 1
    for key, value in checkpoint.state.items():
        match = LAYER_KEY.fullmatch(key)
        if match is None:
            if key.startswith(("encoder.norm.", "encoder.relative_embedding.")):
                state[key.removeprefix("encoder.")] = value
        elif first <= int(match[1]) < first + config.num_layers:
            state[f"layers.{int(match[1]) - first}.{match[2]}"] = value
    load_state(backbone, state, source=reference)


def _is_layer_from(key: str, index: int) -> bool:
    match = LAYER_KEY.fullmatch(key)
    return match is not None and int(match[1]) >= index


def _check_style(
    config: WavLMConfig | WavLMUpperConfig, given: WavLMConfig, fields: tuple[str, ...], reference: str
) -> None:
    """Refuse what shapes alone would not show."""
    differing = [
        f"{field} is {getattr(given, field)} there and {getattr(config, field)} here"
        for field in fields
        if getattr(given, field) != getattr(config, field)
    ]
    if differing:
        raise CheckpointError(
            f"{reference} does not fit {config.role} '{config.name}': {'; '.join(differing)}. "
            "Give both the same options"
        )


def _check_layers(available: int, first: int, count: int, reference: str) -> None:
    if first + count - 1 > available:
        raise CheckpointError(
            f"{reference} has {available} layers, but layers {first} to {first + count - 1} are asked for; "
            "lower num_layers or first_layer"
        )
