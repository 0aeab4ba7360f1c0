"""Small quantizers of every kind, and features that are easy to code."""

from typing import Any

import pytest
import torch
from torch import Tensor

from wavslm_core.parts.interfaces import Quantizer
from wavslm_core.parts.plugins import load_registry
from wavslm_vector_quantize.codebook_configs import (
    CodebookOptions,
    KMeansConfig,
    ResidualConfig,
    SimVqConfig,
    VqConfig,
)
from wavslm_vector_quantize.scalar_configs import BsqConfig, FsqConfig, LfqConfig

DIM = 16
CONV = {"name": "conv", "dim": 32, "kernel_size": 3}
RANDOM = CodebookOptions(initial="random", decay=0.95)
MAPS: dict[str, Any] = {"input_dim": DIM, "compressor": CONV, "decompressor": CONV}
BLOCKS = {"name": "focal", "hidden_dims": (32,), "focal_window": 3, "window_size": 8}
FOCAL: dict[str, Any] = {
    "input_dim": DIM,
    "compressor": {**BLOCKS, "downscale_factors": (1,)},
    "decompressor": {**BLOCKS, "upscale_factors": (1,), "last_window_size": 8},
}

CONFIGS: dict[str, Any] = {
    "fsq": FsqConfig(levels=(4, 4, 4), **MAPS),
    "lfq": LfqConfig(codebook_size=64, **MAPS),
    "bsq": BsqConfig(codebook_size=64, **MAPS),
    "vq": VqConfig(codebook_size=64, code_dim=8, **MAPS),
    "vq_random": VqConfig(codebook_size=64, code_dim=8, codebook=RANDOM, **MAPS),
    "vq_cosine": VqConfig(codebook_size=64, code_dim=8, distance="cosine", gradient="rotation", **MAPS),
    "sim_vq": SimVqConfig(codebook_size=64, code_dim=8, **MAPS),
    "residual": ResidualConfig(codes_per_level=32, code_dim=8, **MAPS),
    "vq_focal": VqConfig(codebook_size=64, code_dim=8, **FOCAL),
    "fsq_focal": FsqConfig(levels=(4, 4, 4), **FOCAL),
    "k_means": KMeansConfig(input_dim=DIM, codebook_size=64),
}
"""Every kind of quantizer here, with 64 token ids."""


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=list(CONFIGS))
def quantizer(request: pytest.FixtureRequest) -> Quantizer[Any]:
    built: Quantizer[Any] = load_registry().build(CONFIGS[request.param])
    return built


def smooth_features(seed: int, *, batch: int = 8, frames: int = 50) -> Tensor:
    """Return features (B,T,D) that four slow random sources make."""
    mixing = torch.randn(4, DIM, generator=torch.Generator().manual_seed(999))
    sources = torch.randn(batch, frames + 8, 4, generator=torch.Generator().manual_seed(seed))
    slow = torch.nn.functional.avg_pool1d(sources.mT, 9, stride=1).mT
    return torch.tanh(3 * slow) @ mixing


@pytest.fixture
def features() -> Any:
    return smooth_features
