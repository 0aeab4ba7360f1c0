"""WavLM folders of the transformers library: `config.json` beside safetensors or a `pytorch_model.bin`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wavslm_core.plugin import CheckpointError, read_document, read_object
from wavslm_wavlm.config import WavLMConfig

PREFIX = "wavlm."

_LAYER = r"encoder\.layers\.(\d+)\."
KEYS: dict[str, str] = {
    r"masked_spec_embed": "",
    r"feature_extractor\.conv_layers\.(\d+)\.conv\.(\w+)": r"feature_extractor.layers.\1.conv.\2",
    r"feature_extractor\.conv_layers\.(\d+)\.layer_norm\.(\w+)": r"feature_extractor.layers.\1.norm.\2",
    r"feature_projection\.layer_norm\.(\w+)": r"norm.\1",
    r"feature_projection\.projection\.(\w+)": r"feature_proj.\1",
    r"encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original0": (
        r"encoder.positional_embedding.conv.weight_g"
    ),
    r"encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original1": (
        r"encoder.positional_embedding.conv.weight_v"
    ),
    r"encoder\.pos_conv_embed\.conv\.(\w+)": r"encoder.positional_embedding.conv.\1",
    r"encoder\.layer_norm\.(\w+)": r"encoder.norm.\1",
    r"encoder\.layers\.0\.attention\.rel_attn_embed\.weight": r"encoder.relative_embedding.weight",
    _LAYER + r"layer_norm\.(\w+)": r"encoder.layers.\1.attention_norm.\2",
    _LAYER + r"final_layer_norm\.(\w+)": r"encoder.layers.\1.feed_forward_norm.\2",
    _LAYER + r"feed_forward\.intermediate_dense\.(\w+)": r"encoder.layers.\1.feed_forward.in_proj.\2",
    _LAYER + r"feed_forward\.output_dense\.(\w+)": r"encoder.layers.\1.feed_forward.out_proj.\2",
}
"""Pattern → our key; an empty one is dropped. Other keys have our names already."""

CONV_DEFAULTS: dict[str, list[int]] = {
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
}
"""What the library leaves out of a config.json when it has the library's default value."""


def config_from(folder: Path) -> WavLMConfig:
    """Return the config of a folder's full-context model.

    Raises: CheckpointError when it is no WavLM, or one of a kind that this encoder does not compute.
    """
    document = read_document(folder)
    if document.get("model_type") != "wavlm":
        raise CheckpointError(
            f"{folder} holds a model of type '{document.get('model_type')}', a 'wavlm' is needed; "
            "give a folder or hub id such as microsoft/wavlm-large"
        )
    try:
        return _config(document, folder)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "config"
        raise CheckpointError(f"{folder / 'config.json'}: {where}: {first['msg']}") from None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error}. Fetch it again") from None


def _config(document: Mapping[str, Any], folder: Path) -> WavLMConfig:
    activations = {document.get(key, "gelu") for key in ("hidden_act", "feat_extract_activation")}
    eps, adapter = document.get("layer_norm_eps", 1e-5), bool(document.get("add_adapter"))
    if activations != {"gelu"} or eps != 1e-5 or adapter:
        raise CheckpointError(
            f"{folder} has activations {sorted(activations)}, layer_norm_eps {eps}, add_adapter {adapter}; "
            "only gelu, 1e-05 and no adapter are supported"
        )
    sizes = {key: tuple(document.get(key, default)) for key, default in CONV_DEFAULTS.items()}
    front_end_norm = document.get("feat_extract_norm", "group")
    pre_norm = document.get("do_stable_layer_norm", False)
    return WavLMConfig(
        hidden_dims=sizes["conv_dim"],
        kernel_sizes=sizes["conv_kernel"],
        strides=sizes["conv_stride"],
        num_layers=document.get("num_hidden_layers", 12),
        dim=document.get("hidden_size", 768),
        ffn_dim=document.get("intermediate_size", 3072),
        num_heads=document.get("num_attention_heads", 12),
        num_buckets=document.get("num_buckets", 320),
        max_distance=document.get("max_bucket_distance", 800),
        conv_pos=document.get("num_conv_pos_embeddings", 128),
        conv_pos_groups=document.get("num_conv_pos_embedding_groups", 16),
        layer_norm_first=pre_norm,
        final_norm=pre_norm,
        front_end_norm=front_end_norm,
        conv_bias=document.get("conv_bias", False),
        normalize_waveform=_normalizes(folder, default=front_end_norm == "layer"),
    )


def _normalizes(folder: Path, *, default: bool) -> bool:
    """Return whether the folder's preprocessor normalises waveforms; large models do, base ones do not."""
    path = folder / "preprocessor_config.json"
    try:
        document = read_object(path, remedy="Fetch it again", error=CheckpointError)
    except FileNotFoundError:
        return default
    return bool(document.get("do_normalize", default))
