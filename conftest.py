"""A small model of the reference parts, for tests of the project's and of its plugins'."""

from __future__ import annotations

from typing import Any, Protocol

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
        "name": "focalcodec_stream",
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


class BuildModel(Protocol):
    """Builds the model, with other blocks of a recipe where they are given."""

    def __call__(self, seed: int = 0, *, codebook_size: int = 256, **blocks: Any) -> SpeechLM: ...


@pytest.fixture(scope="session")
def build_model() -> BuildModel:
    """A model whose windows and rings are soon full."""

    def build(seed: int = 0, *, codebook_size: int = 256, **blocks: Any) -> SpeechLM:
        torch.manual_seed(seed)
        quantizer = {**RECIPE["quantizer"], "codebook_size": codebook_size}
        configs = resolve(recipe_from_dict({**RECIPE, "quantizer": quantizer, **blocks})).part_configs
        return SpeechLM.from_configs(Codec.from_configs(configs), configs).eval()

    return build


@pytest.fixture(scope="module")
def model(build_model: BuildModel) -> SpeechLM:
    return build_model()


@pytest.fixture(scope="module")
def other_model(build_model: BuildModel) -> SpeechLM:
    """A model of the same shape with other weights."""
    return build_model(seed=1)
