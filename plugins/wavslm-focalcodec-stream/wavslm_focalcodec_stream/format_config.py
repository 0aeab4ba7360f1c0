"""The official releases' `config.json`, read and written without torch.

Configs of the encoder, backbone, head and sampler belong to other distributions: they are looked up in the
registry, so that this one works without them until a folder needs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, Literal

from wavslm_core.plugin import CheckpointError, FormatConfig, PartConfig, Role, did_you_mean
from wavslm_focalcodec_stream.config import CompressorOptions, DecompressorOptions
from wavslm_focalcodec_stream.official_names import (
    BACKBONE_KEYS,
    CODEC_KEYS,
    CODEC_NAMES,
    COMPRESSOR_KEYS,
    DECODER_KEYS,
    DECODER_NAMES,
    DECOMPRESSOR_KEYS,
    ENCODER_KEYS,
    LANGUAGE_MODEL_KEYS,
    QUANTIZER_KEYS,
    build,
    known_document,
    refuse_unknown,
    section,
)

CODEC_PARTS: dict[Role, tuple[str, ...]] = {
    "encoder": ("wavlm",),
    "quantizer": ("focalcodec_stream",),
    "decoder": tuple(DECODER_NAMES.values()),
}
LANGUAGE_MODEL_PARTS: dict[Role, tuple[str, ...]] = {"backbone": ("wavlm_upper",), "head": ("next_chunk",)}
"""Parts with weights that a folder can hold, by name. A sampler has none."""
INITIALISATION_FIELDS = ("checkpoint", "first_layer")
"""Say where weights came from at first; a folder that holds the weights no longer needs them."""


class FocalCodecFormatConfig(FormatConfig):
    """Folders of the official FocalCodec, FocalCodec-Stream and WavSLM releases."""

    format: Literal["focalcodec"] = "focalcodec"

    def holds(self, document: dict[str, Any]) -> Literal["codec", "speech_lm"] | None:
        if "toks_per_step" in document or "codec_config" in document:
            return "speech_lm"
        return "codec" if document.keys() & set(CODEC_KEYS) else None

    def part_configs(self, document: dict[str, Any]) -> dict[Role, PartConfig]:
        """Return the parts' configs; keys that are left out keep the official constructors' defaults.

        Raises: CheckpointError on keys, names or values that the official release does not have.
        """
        held = self.holds(document)
        if held == "codec":
            return _codec_parts(document)
        if held == "speech_lm":
            return _language_model_parts(document)
        raise CheckpointError(
            "this config.json is neither of a FocalCodec nor of a WavSLM folder: it has none of "
            f"{', '.join([*CODEC_KEYS[:2], 'toks_per_step'])}. Give the folder of an official checkpoint"
        )

    def document(self, parts: dict[Role, PartConfig]) -> dict[str, Any] | str:
        weighty = dict(parts)
        weighty.pop("sampler", None)
        for held in (CODEC_PARTS, LANGUAGE_MODEL_PARTS):
            if weighty.keys() == held.keys():
                break
        else:
            return f"holds no model of {', '.join(parts)}"
        for role, names in held.items():
            if weighty[role].registered_name() not in names:
                name = getattr(weighty[role], "name", "?")
                return f"holds the {role} {' or '.join(names)}, not '{name}'"
        document = _codec_document(parts) if held is CODEC_PARTS else _language_model_document(parts)
        try:
            read_back = self.part_configs(document)
        except CheckpointError as error:
            return f"cannot hold these options: {error}"
        # Only what reads back as the very same parts may be written: nothing is lost silently.
        for role, config in weighty.items():
            given, found = (each.model_dump() for each in (_without_initialisation(config), read_back[role]))
            lost = [name for name, value in given.items() if found.get(name) != value]
            if lost or type(config) is not type(read_back[role]):
                return f"has no place for {', '.join(f'{role}.{name}' for name in lost) or role} as it is"
        return document

    def known_document(self, checkpoint: str) -> dict[str, Any] | None:
        return known_document(checkpoint)


def _codec_parts(document: dict[str, Any]) -> dict[Role, PartConfig]:
    refuse_unknown(document, CODEC_KEYS, "config.json")
    for key, allowed in CODEC_NAMES.items():
        name = document.get(key, allowed[0])
        if name not in allowed:
            raise CheckpointError(
                f"{key} is '{name}'; this plugin reads {' or '.join(allowed)}."
                f"{did_you_mean(str(name), allowed)} Use a release of the plugin that knows it"
            )
    encoder_options = section(document, "encoder_config", ENCODER_KEYS)
    compressor = section(document, "compressor_config", COMPRESSOR_KEYS)
    quantizer = section(document, "quantizer_config", QUANTIZER_KEYS)
    decompressor = section(document, "decompressor_config", DECOMPRESSOR_KEYS)
    decoder_name = DECODER_NAMES[document.get("decoder_name", CODEC_NAMES["decoder_name"][0])]
    decoder = section(document, "decoder_config", DECODER_KEYS[decoder_name])
    causal = bool(compressor.pop("causal", False))
    if bool(decompressor.pop("causal", False)) != causal:
        raise CheckpointError(
            "compressor_config and decompressor_config differ in `causal`: both must be causal or neither"
        )
    codebook_size = quantizer.get("codebook_size", 4096)
    code_dims = (compressor.pop("output_dim", 12), decompressor.pop("input_dim", 12))
    quantizer_config = build(
        "quantizer",
        "focalcodec_stream",
        {
            "input_dim": compressor.pop("input_dim", 1024),
            "output_dim": decompressor.pop("output_dim", 1024),
            "codebook_size": codebook_size,
            "causal": causal,
            "compressor": compressor,
            "decompressor": decompressor,
        },
    )
    bits = codebook_size.bit_length() - 1
    if code_dims != (bits, bits):
        raise CheckpointError(
            f"compressor_config.output_dim {code_dims[0]} and decompressor_config.input_dim {code_dims[1]} "
            f"must both be {bits}, the logarithm of quantizer_config.codebook_size {codebook_size}"
        )
    encoder_config = build("encoder", "wavlm", encoder_options)
    encoder_facts = encoder_config.facts()
    if "hop_length" in decoder:
        decoder["hop_samples"] = decoder.pop("hop_length")
    hop_samples = decoder.get("hop_samples", 480 if decoder_name == "wavenext" else 320)
    frame_samples = prod(getattr(encoder_config, "strides", (320,)))
    decoder.setdefault("input_dim", 1024)
    decoder.setdefault("causal", False)
    decoder["sample_rate_hz"] = hop_samples * getattr(encoder_facts, "sample_rate_hz", 16000) // frame_samples
    return {
        "encoder": encoder_config,
        "quantizer": quantizer_config,
        "decoder": build("decoder", decoder_name, decoder),
    }


def _language_model_parts(document: dict[str, Any]) -> dict[Role, PartConfig]:
    refuse_unknown(document, LANGUAGE_MODEL_KEYS, "config.json")
    if not document.get("causal", True):
        raise CheckpointError("config.json says `causal: false`, but a language model must be causal")
    options = {"lookahead_size": 3} | {key: document[key] for key in BACKBONE_KEYS if key in document}
    vocab_size = document.get("vocab_size", 4096)
    dim = options.get("dim", 1024)
    backbone = build("backbone", "wavlm_upper", {**options, "input_dim": dim, "vocab_size": vocab_size})
    head = build(
        "head",
        "next_chunk",
        {"input_dim": dim, "vocab_size": vocab_size, "chunk_tokens": document.get("toks_per_step", 4)},
    )
    sampler = build("sampler", "top_p", {"p": 0.3, "temperature": 0.8})
    return {"backbone": backbone, "head": head, "sampler": sampler}


def _codec_document(parts: Mapping[Role, PartConfig]) -> dict[str, Any]:
    encoder, quantizer, decoder = (
        parts[role].model_dump(mode="json") for role in ("encoder", "quantizer", "decoder")
    )
    decoder_names = {ours: theirs for theirs, ours in DECODER_NAMES.items()}
    bits = quantizer["codebook_size"].bit_length() - 1
    causal = quantizer["causal"]
    output_dim = quantizer["output_dim"] or quantizer["input_dim"]
    options = {key: decoder[key] for key in DECODER_KEYS[decoder["name"]] if key in decoder}
    return {
        "encoder_name": "WavLM",
        "encoder_config": {key: encoder[key] for key in ENCODER_KEYS if key in encoder},
        "compressor_name": "FocalEncoder",
        "compressor_config": {
            "input_dim": quantizer["input_dim"],
            "output_dim": bits,
            "causal": causal,
            **{key: quantizer["compressor"][key] for key in CompressorOptions.model_fields},
        },
        "quantizer_name": "BinarySphericalQuantizer",
        "quantizer_config": {"codebook_size": quantizer["codebook_size"]},
        "decompressor_name": "FocalDecoder",
        "decompressor_config": {
            "input_dim": bits,
            "output_dim": output_dim,
            "causal": causal,
            **{key: quantizer["decompressor"][key] for key in DecompressorOptions.model_fields},
        },
        "decoder_name": decoder_names[decoder["name"]],
        "decoder_config": {**options, "hop_length": decoder["hop_samples"]},
    }


def _language_model_document(parts: Mapping[Role, PartConfig]) -> dict[str, Any]:
    backbone, head = (parts[role].model_dump(mode="json") for role in LANGUAGE_MODEL_PARTS)
    return {
        "vocab_size": head["vocab_size"],
        **{key: backbone[key] for key in BACKBONE_KEYS},
        "causal": True,
        "toks_per_step": head["chunk_tokens"],
    }


def _without_initialisation(config: PartConfig) -> PartConfig:
    defaults = {
        name: type(config).model_fields[name].default
        for name in INITIALISATION_FIELDS
        if name in type(config).model_fields
    }
    return config.model_copy(update=defaults)
