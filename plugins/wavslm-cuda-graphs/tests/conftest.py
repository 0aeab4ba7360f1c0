"""A small model of the reference parts, whose windows and rings are soon full."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from wavslm_core.model.codec import Codec
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.resolving import resolve

FOCAL = {"hidden_dims": [16, 16], "focal_window": 3, "focal_factor": 2, "window_size": 8}
RECIPE: dict[str, Any] = {
    "name": "small",
    "encoder": {
        "name": "wavlm", "causal": True, "hidden_dims": [16, 16], "kernel_sizes": [400, 2],
        "strides": [160, 2], "num_layers": 1, "dim": 32, "ffn_dim": 32, "num_heads": 2, "conv_pos": 8,
        "window_size": 16,
    },
    "quantizer": {
        "name": "focalcodec_stream", "codebook_size": 256,
        "compressor": {**FOCAL, "downscale_factors": [1, 1]},
        "decompressor": {**FOCAL, "upscale_factors": [1, 1], "last_window_size": 8},
    },
    "decoder": {"name": "istft", "n_fft": 1280, "num_layers": 1, "dim": 16, "ffn_dim": 32},
    "backbone": {
        "name": "wavlm_upper", "num_layers": 1, "dim": 32, "ffn_dim": 32, "num_heads": 2, "window_size": 16,
    },
    "head": {"name": "next_chunk", "chunk_tokens": 4},
    "sampler": {"name": "repetition_aware", "p": 0.9, "window_tokens": 6},
    "data": {"corpus": "tiny_speech"},
    "stages": [],
}  # fmt: skip


def built(seed: int) -> SpeechLM:
    torch.manual_seed(seed)
    configs = resolve(recipe_from_dict(RECIPE)).part_configs
    return SpeechLM.from_configs(Codec.from_configs(configs), configs).eval()


@pytest.fixture(scope="module")
def model() -> SpeechLM:
    return built(0)


@pytest.fixture(scope="module")
def other_model() -> SpeechLM:
    """A model of the same shape with other weights."""
    return built(1)
