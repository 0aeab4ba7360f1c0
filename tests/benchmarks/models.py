"""The models that are timed: WavSLM-4k at its full size and a small one, with random weights."""

from typing import Any

import torch

from wavslm_core import Codec, SpeechLM
from wavslm_core.parts.configs import PartConfig, Role
from wavslm_core.parts.plugins import load_registry

FULL_CODEC = "lucadellalib/focalcodec_50hz_4k_causal"
FULL_SPEECH_LM = "lucadellalib/wavslm_4k"

SMALL: dict[str, dict[str, Any]] = {
    "encoder_config": {"hidden_dims": [64] * 7, "num_layers": 2, "dim": 128, "ffn_dim": 256, "num_heads": 4},
    "compressor_config": {"input_dim": 128, "hidden_dims": [128] * 2, "downscale_factors": [1, 1]},
    "decompressor_config": {"output_dim": 128, "hidden_dims": [128] * 2, "upscale_factors": [1, 1]},
    "decoder_config": {"input_dim": 128, "num_layers": 2, "dim": 128, "ffn_dim": 256},
}
SMALL_SPEECH_LM = {"num_layers": 4, "dim": 128, "ffn_dim": 256, "num_heads": 4}


def _format() -> Any:
    return load_registry().entry("format", "focalcodec").config_class()


def build_codec(size: str) -> Codec:
    """Build the codec of `size` "small" or "full"."""
    document = _format().known_document(FULL_CODEC)
    if size == "small":
        for key, changes in SMALL.items():
            document[key] = {**document.get(key, {}), **changes}
    torch.manual_seed(0)
    return Codec.from_configs(_format().part_configs(document)).eval()


def build_speech_lm(size: str, codec: Codec) -> SpeechLM:
    """Build the language model of `size` "small" or "full" over a codec of that size."""
    document = {**_format().known_document(FULL_SPEECH_LM), **(SMALL_SPEECH_LM if size == "small" else {})}
    configs: dict[Role, PartConfig] = _format().part_configs(document)
    torch.manual_seed(0)
    return SpeechLM.from_configs(codec, configs).eval()
