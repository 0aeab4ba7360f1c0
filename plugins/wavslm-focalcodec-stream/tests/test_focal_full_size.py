"""Full-size models have exactly the official keys and shapes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from wavslm_core.parts.plugins import load_registry
from wavslm_focalcodec_stream.format_config import FocalCodecFormatConfig
from wavslm_focalcodec_stream.official_format import CODEC_PREFIXES

NAMES = [*(f"focalcodec_50hz_{size}_causal" for size in ("2k", "4k", "65k")), "focalcodec_50hz"]


@pytest.mark.parametrize("name", NAMES)
def test_codec_keys_and_shapes(name: str, parity_folder: Callable[[str], Path]) -> None:
    listed = json.loads(parity_folder("focalcodec_full_size_keys.json").read_text())[name]
    parts = FocalCodecFormatConfig().part_configs(listed["config"])
    for file_prefix, (role, part_prefix) in CODEC_PREFIXES.items():
        if role == "encoder" and "wavlm" not in load_registry().names("encoder"):
            continue
        with torch.device("meta"):
            part = load_registry().build(parts[role])
        ours = {
            file_prefix + key.removeprefix(part_prefix): list(value.shape)
            for key, value in part.state_dict().items()
            if key.startswith(part_prefix)
        }
        assert ours == {key: shape for key, shape in listed["keys"].items() if key.startswith(file_prefix)}


def test_language_model_keys_and_shapes(parity_folder: Callable[[str], Path]) -> None:
    listed = json.loads(parity_folder("wavslm_full_size_keys.json").read_text())
    for name, entry in listed.items():
        parts = FocalCodecFormatConfig().part_configs(entry["config"])
        with torch.device("meta"):
            backbone = load_registry().build(parts["backbone"])
            head = load_registry().build(parts["head"])
        ours = {f"encoder.{key}": list(value.shape) for key, value in backbone.state_dict().items()}
        ours |= {f"head.{key}": list(value.shape) for key, value in head.state_dict().items()}
        assert ours == entry["keys"], name


@pytest.mark.parametrize("name", NAMES[:3])
def test_known_documents_describe_the_listed_models(name: str, parity_folder: Callable[[str], Path]) -> None:
    listed = json.loads(parity_folder("focalcodec_full_size_keys.json").read_text())[name]
    formats = FocalCodecFormatConfig()
    known = formats.known_document(f"lucadellalib/{name}")
    assert known is not None
    assert formats.part_configs(known) == formats.part_configs(listed["config"])
