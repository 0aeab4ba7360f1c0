"""The original WavLM `.pt` files: a dict with `cfg` (plain options) and `model` (weights)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from wavslm_core.plugin import CheckpointError
from wavslm_wavlm.config import WavLMConfig

_LAYER = r"encoder\.layers\.(\d+)\."
KEYS: dict[str, str] = {
    r"mask_emb": "",
    r"feature_extractor\.conv_layers\.(\d+)\.0\.(\w+)": r"feature_extractor.layers.\1.conv.\2",
    r"feature_extractor\.conv_layers\.(\d+)\.2(?:\.1)?\.(\w+)": r"feature_extractor.layers.\1.norm.\2",
    r"layer_norm\.(\w+)": r"norm.\1",
    r"post_extract_proj\.(\w+)": r"feature_proj.\1",
    r"encoder\.pos_conv\.0\.(\w+)": r"encoder.positional_embedding.conv.\1",
    r"encoder\.layer_norm\.(\w+)": r"encoder.norm.\1",
    r"encoder\.layers\.0\.self_attn\.relative_attention_bias\.weight": r"encoder.relative_embedding.weight",
    _LAYER + r"self_attn\.grep_a": r"encoder.layers.\1.attention.gru_rel_pos_const",
    _LAYER + r"self_attn\.grep_linear\.(\w+)": r"encoder.layers.\1.attention.gru_rel_pos_linear.\2",
    _LAYER + r"self_attn\.([qkv]|out)_proj\.(\w+)": r"encoder.layers.\1.attention.\2_proj.\3",
    _LAYER + r"self_attn_layer_norm\.(\w+)": r"encoder.layers.\1.attention_norm.\2",
    _LAYER + r"final_layer_norm\.(\w+)": r"encoder.layers.\1.feed_forward_norm.\2",
    _LAYER + r"fc1\.(\w+)": r"encoder.layers.\1.feed_forward.in_proj.\2",
    _LAYER + r"fc2\.(\w+)": r"encoder.layers.\1.feed_forward.out_proj.\2",
}
"""Pattern → our key; an empty one is dropped."""

MOST_LAYERS = 64
CONV_GROUP = re.compile(r"\[\s*(\([^\]]*\))\s*,?\s*\]\s*(?:\*\s*(\d+))?")
CONV_TRIPLE = re.compile(r"\(\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\)")


def config_from(options: Mapping[str, Any], *, source: str) -> WavLMConfig:
    """Return the config of the full-context model. Raises: CheckpointError for options not understood."""
    try:
        layers = conv_layers(options["conv_feature_layers"], source=source)
        pre_norm = bool(options["layer_norm_first"])
        return WavLMConfig(
            hidden_dims=tuple(layer[0] for layer in layers),
            kernel_sizes=tuple(layer[1] for layer in layers),
            strides=tuple(layer[2] for layer in layers),
            num_layers=options["encoder_layers"],
            dim=options["encoder_embed_dim"],
            ffn_dim=options["encoder_ffn_embed_dim"],
            num_heads=options["encoder_attention_heads"],
            num_buckets=options["num_buckets"],
            max_distance=options["max_distance"],
            conv_pos=options["conv_pos"],
            conv_pos_groups=options["conv_pos_groups"],
            layer_norm_first=pre_norm,
            final_norm=pre_norm,
            front_end_norm="layer" if options["extractor_mode"] == "layer_norm" else "group",
            conv_bias=options["conv_bias"],
            normalize_waveform=options["normalize"],
        )
    except KeyError as error:
        raise CheckpointError(f"{source}: `cfg` has no option {error}; is it a WavLM checkpoint?") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise CheckpointError(f"{source}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def conv_layers(text: str, *, source: str) -> list[tuple[int, int, int]]:
    """Return (channels, kernel, stride) of each convolution from `[(512,10,5)] + [(512,3,2)] * 4 + …`.

    The text is an expression in Python; it is read, never evaluated. Raises: CheckpointError.
    """
    if not isinstance(text, str):
        raise CheckpointError(f"{source}: conv_feature_layers is a {type(text).__name__}, not a text")
    layers: list[tuple[int, int, int]] = []
    rest = text.strip()
    while rest:
        match = CONV_GROUP.match(rest)
        triples = CONV_TRIPLE.findall(match[1]) if match else []
        if match is None or not triples:
            raise CheckpointError(f"{source}: conv_feature_layers '{text[:200]}' is not understood")
        layers += [(int(a), int(b), int(c)) for a, b, c in triples] * min(int(match[2] or 1), MOST_LAYERS)
        if len(layers) > MOST_LAYERS:
            raise CheckpointError(f"{source}: conv_feature_layers names more than {MOST_LAYERS} layers")
        rest = rest[match.end() :].strip().removeprefix("+").strip()
    return layers
