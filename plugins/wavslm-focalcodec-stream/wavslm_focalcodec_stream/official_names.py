"""Names in the official releases' `config.json`, how they are read, and what their well-known hub ids hold.

Keys that a `config.json` leaves out keep the official constructors' defaults, which are also ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from wavslm_core.plugin import CheckpointError, PartConfig, Role, did_you_mean, load_registry
from wavslm_focalcodec_stream.config import CompressorOptions, DecompressorOptions

CODEC_NAMES: dict[str, tuple[str, ...]] = {
    "encoder_name": ("WavLM",),
    "compressor_name": ("FocalEncoder",),
    "quantizer_name": ("BinarySphericalQuantizer",),
    "decompressor_name": ("FocalDecoder",),
    "decoder_name": ("WaveNeXt", "Vocos"),
}
"""Key → the names that it can have, the default first."""
CODEC_KEYS: tuple[str, ...] = (*CODEC_NAMES, *(key.replace("_name", "_config") for key in CODEC_NAMES))
DECODER_NAMES = {"WaveNeXt": "wavenext", "Vocos": "vocos"}
"""Their name → ours."""

BACKBONE_KEYS = (
    "num_layers", "dim", "ffn_dim", "num_heads", "num_buckets", "max_distance",
    "dropout", "window_size", "lookahead_size",
)  # fmt: skip
ENCODER_KEYS = (
    *BACKBONE_KEYS, "hidden_dims", "kernel_sizes", "strides", "conv_pos", "conv_pos_groups", "causal",
)  # fmt: skip
COMPRESSOR_KEYS = ("input_dim", "output_dim", "causal", *CompressorOptions.model_fields)
QUANTIZER_KEYS = ("codebook_size",)
DECOMPRESSOR_KEYS = ("input_dim", "output_dim", "causal", *DecompressorOptions.model_fields)
_CONVNEXT_KEYS = (
    "input_dim", "num_layers", "dim", "ffn_dim", "kernel_size", "layerscale_init", "hop_length", "causal",
)  # fmt: skip
DECODER_KEYS = {"wavenext": _CONVNEXT_KEYS, "vocos": (*_CONVNEXT_KEYS, "n_fft")}
LANGUAGE_MODEL_KEYS = (*BACKBONE_KEYS, "vocab_size", "causal", "codec_config", "toks_per_step")
HARMLESS_KEYS = frozenset({"max_cached_steps", "use_flex_attention"})
"""Sizes of caches and choices of kernels: they change no number, so they are neither used nor kept."""

_OWNER = "lucadellalib"


def known_document(checkpoint: str) -> dict[str, Any] | None:
    """Return what is known of an official hub id's `config.json`, for plans; loading reads the real one."""
    owner, _, name = checkpoint.partition("/")
    if owner != _OWNER:
        return None
    causal_bits = {"2k": 11, "4k": 12, "65k": 16}
    for size, bits in causal_bits.items():
        if name == f"focalcodec_50hz_{size}_causal":
            return _causal_codec(bits)
        if name == f"wavslm_{size}":
            return {
                "vocab_size": 1 << bits,
                "num_layers": 18,
                "causal": True,
                "codec_config": f"{_OWNER}/focalcodec_50hz_{size}_causal",
                "toks_per_step": 4,
            }
    factors = {
        "focalcodec_50hz": (1, 1, 1),
        "focalcodec_25hz": (1, 1, 2),
        "focalcodec_12_5hz": (1, 2, 2),
    }.get(name)
    return None if factors is None else _offline_codec(list(factors))


def _causal_codec(bits: int) -> dict[str, Any]:
    return {
        "encoder_name": "WavLM",
        "encoder_config": {"causal": True},
        "compressor_config": {"causal": True, "output_dim": bits},
        "quantizer_config": {"codebook_size": 1 << bits},
        "decompressor_config": {"causal": True, "input_dim": bits},
        "decoder_name": "WaveNeXt",
        "decoder_config": {"causal": True},
    }


def _offline_codec(downscale_factors: list[int]) -> dict[str, Any]:
    focal = {"focal_window": 7, "focal_level": 2, "focal_factor": 2}
    return {
        "encoder_name": "WavLM",
        "compressor_config": {
            "output_dim": 13,
            "hidden_dims": [1024, 512, 256],
            "downscale_factors": downscale_factors,
            **focal,
        },
        "quantizer_config": {"codebook_size": 8192},
        "decompressor_config": {
            "input_dim": 13,
            "hidden_dims": [256, 512, 1024],
            "upscale_factors": downscale_factors[::-1],
            **focal,
        },
        "decoder_name": "Vocos",
    }


def section(document: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> dict[str, Any]:
    """Return a copy of one part's options, without those that change no number."""
    options = document.get(key) or {}
    if not isinstance(options, dict):
        raise CheckpointError(f"{key} must be an object, not {type(options).__name__}")
    refuse_unknown(options, allowed, key)
    return {name: value for name, value in options.items() if name not in HARMLESS_KEYS}


def refuse_unknown(given: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
    """Raises: CheckpointError naming keys that the official release does not have."""
    unknown = [key for key in given if key not in allowed and key not in HARMLESS_KEYS]
    if unknown:
        raise CheckpointError(
            f"{where} has {len(unknown)} unknown key{'s' if len(unknown) > 1 else ''}: {', '.join(unknown)}."
            f"{did_you_mean(unknown[0], allowed)} Allowed: {', '.join(allowed)}. "
            "The checkpoint may need a newer release of wavslm-focalcodec-stream"
        )


def build(role: Role, name: str, options: Mapping[str, Any]) -> PartConfig:
    """Return a registered part's config. Raises: CheckpointError; PluginError when not installed."""
    config_class = load_registry().entry(role, name).config_class
    try:
        config = config_class.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([role, *(str(piece) for piece in first["loc"])])
        raise CheckpointError(
            f"config.json does not describe a {role} '{name}': {where}: {first['msg']} "
            f"(given: {first.get('input')!r}). Fetch or save it again"
        ) from None
    assert isinstance(config, PartConfig)
    return config
