"""Checkpoints of HuBERT and wav2vec 2.0 in the format of transformers: read as tensors, checked, loaded."""

import re
from pathlib import Path
from typing import Any

from torch import nn

from wavslm_core.plugin import (
    PICKLE_FILE,
    WEIGHTS_FILE,
    CheckpointError,
    find_folder,
    load_state,
    read_document,
    read_folder,
    read_object,
)
from wavslm_speech_encoders.config import HubConfig

NAMES = {
    "dim": "hidden_size",
    "ffn_dim": "intermediate_size",
    "num_heads": "num_attention_heads",
    "hidden_dims": "conv_dim",
    "kernel_sizes": "conv_kernel",
    "strides": "conv_stride",
    "conv_bias": "conv_bias",
    "conv_pos": "num_conv_pos_embeddings",
    "conv_pos_groups": "num_conv_pos_embedding_groups",
    "front_end_norm": "feat_extract_norm",
    "layer_norm_first": "do_stable_layer_norm",
}
"""Our option → the library's."""
FIXED = {
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "layer_norm_eps": 1e-5,
    "feat_proj_layer_norm": True,
    "conv_pos_batch_norm": False,
    "adapter_attn_dim": None,
    "add_adapter": False,
}
"""What all models that can be loaded have in common; a few have something else."""
UNTRAINED = {
    "hidden_dropout": 0.0,
    "activation_dropout": 0.0,
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "layerdrop": 0.0,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "apply_spec_augment": False,
}
"""Training must see what inference sees: codes would otherwise depend on luck."""
LAYER_KEY = re.compile(r"encoder\.layers\.(\d+)\..+")
WEIGHT_NORM = {
    "encoder.pos_conv_embed.conv.weight_g": "encoder.pos_conv_embed.conv.parametrizations.weight.original0",
    "encoder.pos_conv_embed.conv.weight_v": "encoder.pos_conv_embed.conv.parametrizations.weight.original1",
}
"""Keys of older releases of the library → today's."""


def library_options(config: HubConfig) -> dict[str, Any]:
    """Return the library's options for a config of ours."""
    options = {theirs: getattr(config, ours) for ours, theirs in NAMES.items()}
    return {**options, **UNTRAINED, "num_hidden_layers": config.layer}


def load_initial(model: nn.Module, config: HubConfig, config_class: Any, reference: str) -> None:
    """Fill a model from the lowest layers of a checkpoint. Raises: CheckpointError when it does not fit."""
    folder = find_folder(reference)
    _check_config(folder, config, config_class, reference)
    prefix = f"{config.registered_name()}."
    state = read_folder(folder, WEIGHTS_FILE, PICKLE_FILE)
    # A model with a task head keeps the model itself under this prefix and the head beside it.
    inner = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    wanted = {WEIGHT_NORM.get(key, key): value for key, value in (inner or state).items()}
    load_state(
        model,
        {key: value for key, value in wanted.items() if not _is_left_out(key, config)},
        source=reference,
    )


def _is_left_out(key: str, config: HubConfig) -> bool:
    if key == "masked_spec_embed" or (config.layer_norm_first and key.startswith("encoder.layer_norm.")):
        return True
    match = LAYER_KEY.fullmatch(key)
    return match is not None and int(match[1]) >= config.layer


def _check_config(folder: Path, config: HubConfig, config_class: Any, reference: str) -> None:
    """Refuse what shapes alone would not show."""
    document = read_document(folder)
    name = config.registered_name()
    if document.get("model_type") != name:
        raise CheckpointError(
            f"{reference} holds a model of type '{document.get('model_type')}', a '{name}' is needed; "
            "name the encoder of that type, or another checkpoint"
        )
    # The library leaves out of a config.json what has its default value.
    given = config_class.from_dict(document)
    different = [
        f"{key} {getattr(given, key)}" for key, value in FIXED.items() if getattr(given, key, value) != value
    ]
    if different:
        raise CheckpointError(
            f"{reference} has {', '.join(different)}, which this encoder does not compute; "
            "give another checkpoint"
        )
    differing = [
        f"{ours} is {_plain(getattr(given, theirs))} there and {_plain(getattr(config, ours))} here"
        for ours, theirs in NAMES.items()
        if _plain(getattr(given, theirs)) != _plain(getattr(config, ours))
    ]
    normalises = _normalises(folder)
    if normalises not in (None, config.normalize_waveform):
        differing.append(f"normalize_waveform is {normalises} there and {config.normalize_waveform} here")
    if differing:
        raise CheckpointError(
            f"{reference} does not fit encoder '{name}': {'; '.join(differing)}. "
            "Set these options as in the checkpoint"
        )
    if config.layer > given.num_hidden_layers:
        raise CheckpointError(
            f"{reference} has {given.num_hidden_layers} layers, but layer {config.layer} is asked for; "
            "lower `layer`"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _normalises(folder: Path) -> bool | None:
    """Return whether the folder's preprocessor normalises waveforms; None when it does not say."""
    path = folder / "preprocessor_config.json"
    try:
        document = read_object(path, remedy="Fetch it again", error=CheckpointError)
    except FileNotFoundError:
        return None
    found = document.get("do_normalize")
    return found if found is None else bool(found)
