"""Reads and writes the official folders: `model.safetensors`, or a `model.pt` of tensors and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from wavslm_core.plugin import (
    INDEX,
    WEIGHTS_FILE,
    CheckpointError,
    CheckpointFormat,
    CheckpointParts,
    Role,
    joined,
    load_registry,
    read_document,
    read_folder,
    read_torch,
    tensors_in,
    write_document,
    write_weights,
)
from wavslm_focalcodec_stream.format_config import FocalCodecFormatConfig

TORCH_FILE = "model.pt"
CODEC_PREFIXES: dict[str, tuple[Role, str]] = {
    "encoder.": ("encoder", ""),
    "compressor.": ("quantizer", "compressor."),
    "decompressor.": ("quantizer", "decompressor."),
    "decoder.": ("decoder", ""),
}
"""Prefix of a key in the file → role, and prefix of the key in that part."""
LANGUAGE_MODEL_PREFIXES: dict[str, tuple[Role, str]] = {
    "encoder.": ("backbone", ""),
    "head.": ("head", ""),
}
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class FocalCodecFormat(CheckpointFormat):
    """Folders of the official FocalCodec, FocalCodec-Stream and WavSLM releases."""

    config: FocalCodecFormatConfig

    def read(self, folder: Path) -> CheckpointParts:
        document = read_document(folder)
        try:
            configs = self.config.part_configs(document)
        except CheckpointError as error:
            raise CheckpointError(f"{folder}: {error}") from None
        weights = fuse_projections(_read_any(folder), source=str(folder))
        if self.config.holds(document) == "codec":
            return CheckpointParts(configs, _split(weights, CODEC_PREFIXES, folder))
        states = _split(weights, LANGUAGE_MODEL_PREFIXES, folder)
        return CheckpointParts(configs, states, codec=_codec_reference(document.get("codec_config"), folder))

    def write(self, folder: Path, parts: CheckpointParts) -> None:
        document = self.config.document(parts.configs)
        if isinstance(document, str):
            raise CheckpointError(f"the official format {document}; choose other parts, or another format")
        is_codec = self.config.holds(document) == "codec"
        if not is_codec and parts.codec is not None:
            document["codec_config"] = parts.codec
        prefixes = CODEC_PREFIXES if is_codec else LANGUAGE_MODEL_PREFIXES
        weights: dict[str, Tensor] = {}
        for file_prefix, (role, part_prefix) in prefixes.items():
            for key, value in parts.states[role].items():
                if key.startswith(part_prefix):
                    weights[file_prefix + key.removeprefix(part_prefix)] = value
        write_document(folder, document)
        write_weights(folder, weights)


def fuse_projections(weights: dict[str, Tensor], *, source: str = "the checkpoint") -> dict[str, Tensor]:
    """Return the weights with the first release's q_proj, k_proj, v_proj joined into qkv_proj.

    Raises: CheckpointError when one of the three is missing.
    """
    fused: dict[str, Tensor] = {}
    for key, value in weights.items():
        stem, separator, kind = key.rpartition("q_proj.")
        if separator and stem.endswith("."):
            triple = [f"{stem}{letter}_proj.{kind}" for letter in "qkv"]
            missing = [name for name in triple if name not in weights]
            if missing:
                raise CheckpointError(
                    f"{source} has {key} but lacks {', '.join(missing)}; fetch the checkpoint again"
                )
            values = [weights[name] for name in triple]
            fused[f"{stem}qkv_proj.{kind}"] = joined(values, source=f"{source}: {', '.join(triple)}")
        elif not re.search(r"\.[kv]_proj\.(weight|bias)$", key):
            fused[key] = value
    return fused


def _read_any(folder: Path) -> dict[str, Tensor]:
    path = folder / TORCH_FILE
    whole, index = (folder / name for name in (WEIGHTS_FILE, f"{WEIGHTS_FILE}{INDEX}"))
    if whole.exists() or index.exists() or not path.exists():
        return read_folder(folder, WEIGHTS_FILE)
    content = read_torch(path)
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    return tensors_in(content, source=str(path))


def _split(
    weights: dict[str, Tensor], prefixes: dict[str, tuple[Role, str]], folder: Path
) -> dict[Role, dict[str, Tensor]]:
    states: dict[Role, dict[str, Tensor]] = {role: {} for role, _ in prefixes.values()}
    unexpected: list[str] = []
    for key, value in weights.items():
        found = next((prefix for prefix in prefixes if key.startswith(prefix)), None)
        if found is None:
            unexpected.append(key)
            continue
        role, part_prefix = prefixes[found]
        states[role][part_prefix + key.removeprefix(found)] = value
    if unexpected:
        raise CheckpointError(
            f"{folder} has {len(unexpected)} keys that belong to no part: {', '.join(unexpected[:3])}… "
            f"Keys begin with {', '.join(prefixes)}"
        )
    return states


def _codec_reference(given: Any, folder: Path) -> str | None:
    """Return a hub id, path or registered name; None when the file holds something else, such as a remark."""
    if not isinstance(given, str):
        return None
    named = load_registry().checkpoint(given, "codec")
    if HUB_ID.fullmatch(given) or Path(given).is_dir() or named is not None:
        return given
    return str(folder / given) if (folder / given).is_dir() else None
