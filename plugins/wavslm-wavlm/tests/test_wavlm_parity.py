"""The official models: small ones give the same numbers, full-size ones have exactly the same keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from wavslm_wavlm.backbone import WavLMUpper
from wavslm_wavlm.config import WavLMConfig, WavLMUpperConfig
from wavslm_wavlm.encoder import WavLM
from wavslm_wavlm.weights import fuse_qkv

CAUSAL = ["codec_50hz_causal", "codec_50hz_causal_ragged", "codec_50hz_causal_vocos"]
OFFLINE = ["codec_50hz_offline", "codec_12_5hz_offline", "codec_50hz_offline_old_keys"]


def close(found: Tensor, expected: Tensor) -> None:
    tolerance = 2e-4 + 1e-5 * expected.abs().max().item()
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0.0)


def encoder_config(options: dict[str, Any]) -> WavLMConfig:
    return WavLMConfig(**{key: value for key, value in options.items() if key in WavLMConfig.model_fields})


def backbone_config(options: dict[str, Any]) -> WavLMUpperConfig:
    known = {key: value for key, value in options.items() if key in WavLMUpperConfig.model_fields}
    return WavLMUpperConfig(**known, input_dim=options["dim"])


def under(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def load_encoder(folder: Path) -> WavLM:
    options = json.loads((folder / "config.json").read_text())["encoder_config"]
    encoder = WavLM(encoder_config(options)).eval()
    encoder.load_state_dict(fuse_qkv(under("encoder.", load_file(folder / "model.safetensors"))))
    return encoder


@pytest.mark.parametrize("name", [*CAUSAL, *OFFLINE])
def test_encoder_features(parity: Path, name: str) -> None:
    encoder = load_encoder(parity / name)
    io = load_file(parity / name / "io.safetensors")
    with torch.no_grad():
        close(encoder(io["sig"]), io["feats"])
    assert encoder.frame_lengths(torch.tensor(io["sig"].shape[1])) == io["feats"].shape[1]


@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_encoder_stream(parity: Path, chunks: int) -> None:
    encoder = load_encoder(parity / "codec_50hz_causal")
    io = load_file(parity / "codec_50hz_causal" / "io.safetensors")
    state = encoder.init_state(io["sig"].shape[0])
    outputs = []
    for piece in io["sig"].split(chunks * 1280, dim=1):
        output, state = encoder.step(piece, state)
        outputs.append(output)
    close(torch.cat(outputs, dim=1), io["feats"])


def test_backbone_logits_and_stream(parity: Path) -> None:
    folder = parity / "wavslm"
    backbone = WavLMUpper(backbone_config(json.loads((folder / "config.json").read_text()))).eval()
    weights = load_file(folder / "model.safetensors")
    backbone.load_state_dict(under("encoder.", weights))
    io = load_file(folder / "io.safetensors")
    with torch.no_grad():
        close(backbone(io["qfeats"]) @ weights["head.weight"].T, io["logits"])
    for chunks in (1, 2, 5):
        state = backbone.init_state(2)
        outputs = []
        for piece in io["qfeats"].split(chunks * 4, dim=1):
            output, state = backbone.step(piece, state)
            outputs.append(output)
        close(torch.cat(outputs, dim=1) @ weights["head.weight"].T, io["stream_logits"])


def shapes(module: torch.nn.Module) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in module.state_dict().items()}


@pytest.mark.parametrize("name", ["focalcodec_50hz_4k_causal", "focalcodec_50hz"])
def test_full_size_encoder_keys(parity: Path, name: str) -> None:
    document = json.loads((parity / "focalcodec_full_size_keys.json").read_text())
    defaults = document["constructor_defaults"]["WavLM"]
    options = {**defaults, **document[name]["config"]["encoder_config"]}
    with torch.device("meta"):
        encoder = WavLM(encoder_config(options))
    assert shapes(encoder) == under("encoder.", document[name]["keys"])


def test_official_defaults_are_ours(parity: Path) -> None:
    document = json.loads((parity / "focalcodec_full_size_keys.json").read_text())
    ours = json.loads(WavLMConfig().model_dump_json())
    dropped = {"max_cached_steps", "use_flex_attention"}
    official = {
        key: value for key, value in document["constructor_defaults"]["WavLM"].items() if key not in dropped
    }
    assert {key: ours[key] for key in official} == official


@pytest.mark.parametrize("name", ["wavslm_2k", "wavslm_4k", "wavslm_65k"])
def test_full_size_backbone_keys(parity: Path, name: str) -> None:
    document = json.loads((parity / "wavslm_full_size_keys.json").read_text())[name]
    with torch.device("meta"):
        backbone = WavLMUpper(backbone_config(document["config"]))
    assert shapes(backbone) == under("encoder.", document["keys"])
