"""The contract of every quantizer here."""

from typing import Any

import pytest

from wavslm_core.testing import contract_tests
from wavslm_vector_quantize.codebook_configs import (
    CodebookOptions,
    KMeansConfig,
    ResidualConfig,
    SimVqConfig,
    VqConfig,
)
from wavslm_vector_quantize.scalar_configs import BsqConfig, FsqConfig, LfqConfig

slow = pytest.mark.slow
"""Codes that others above have, between maps that others have: both at once is for CI."""

MAPS: dict[str, Any] = {
    "input_dim": 12,
    "compressor": {"name": "conv", "dim": 16, "kernel_size": 3},
    "decompressor": {"name": "conv", "dim": 16, "num_layers": 1, "kernel_size": 4},
}
RANDOM = CodebookOptions(initial="random", dead_code_share=0)
LINEAR: dict[str, Any] = {
    "input_dim": 12,
    "compressor": {"name": "linear"},
    "decompressor": {"name": "linear"},
}
FOCAL_BLOCKS: dict[str, Any] = {"name": "focal", "focal_window": 3, "focal_factor": 1, "window_size": 6}
FOCAL: dict[str, Any] = {
    "input_dim": 12,
    "compressor": {**FOCAL_BLOCKS, "hidden_dims": (16, 12), "downscale_factors": (1, 1)},
    "decompressor": {
        **FOCAL_BLOCKS,
        "hidden_dims": (12,),
        "upscale_factors": (1,),
        "last_window_size": 5,
        "lookahead_size": 3,
    },
}
HALVED: dict[str, Any] = {
    "input_dim": 12,
    "compressor": {**FOCAL_BLOCKS, "hidden_dims": (16, 12), "downscale_factors": (2, 1)},
    "decompressor": {
        **FOCAL_BLOCKS,
        "hidden_dims": (12,),
        "upscale_factors": (2,),
        "last_window_size": 5,
        "lookahead_size": 3,
    },
}

TestFsq = contract_tests(FsqConfig(levels=(5, 4, 3), **MAPS))
TestFsqLinear = contract_tests(FsqConfig(levels=(8, 8), **LINEAR))
TestLfq = contract_tests(LfqConfig(codebook_size=64, **MAPS))
TestBsq = contract_tests(BsqConfig(codebook_size=64, **MAPS))
TestBsqLinear = contract_tests(BsqConfig(codebook_size=64, **LINEAR))
TestVq = contract_tests(VqConfig(codebook_size=64, code_dim=6, **MAPS))
TestVqCosine = contract_tests(
    VqConfig(codebook_size=64, code_dim=6, distance="cosine", gradient="rotation", **MAPS)
)
TestVqRandom = contract_tests(VqConfig(codebook_size=64, code_dim=6, codebook=RANDOM, **MAPS))
TestVqLarge = contract_tests(VqConfig(codebook_size=512, code_dim=6, **LINEAR))
TestSimVq = contract_tests(SimVqConfig(codebook_size=64, code_dim=6, **MAPS))
TestSimVqStraight = contract_tests(
    SimVqConfig(codebook_size=64, code_dim=6, gradient="straight_through", **LINEAR)
)
TestResidual = contract_tests(ResidualConfig(codes_per_level=16, code_dim=6, **MAPS))
TestResidualThree = contract_tests(ResidualConfig(num_levels=3, codes_per_level=8, code_dim=6, **LINEAR))
TestKMeans = contract_tests(KMeansConfig(input_dim=12, codebook_size=64))
TestKMeansStraight = contract_tests(KMeansConfig(input_dim=12, codebook_size=64, gradient="straight_through"))
TestFsqFocal = contract_tests(FsqConfig(levels=(5, 4, 3), **FOCAL))
TestLfqFocal = contract_tests(LfqConfig(codebook_size=64, **HALVED))
TestBsqFocal = slow(contract_tests(BsqConfig(codebook_size=64, **HALVED)))
TestVqFocal = slow(contract_tests(VqConfig(codebook_size=64, code_dim=6, distance="cosine", **HALVED)))
TestSimVqFocal = slow(contract_tests(SimVqConfig(codebook_size=64, code_dim=6, **FOCAL)))
TestResidualFocal = slow(contract_tests(ResidualConfig(codes_per_level=16, code_dim=6, **FOCAL)))
TestFsqMixed = slow(contract_tests(FsqConfig(levels=(5, 4, 3), **MAPS | {"compressor": FOCAL["compressor"]})))
TestKMeansDeduplicated = contract_tests(
    KMeansConfig(input_dim=12, codebook_size=64, deduplicate=True, max_run=5)
)

# An export sees maps and codes, not how they learn: of these, others above have each.
for _same in (
    *(TestBsq, TestVq, TestVqRandom, TestSimVq, TestResidual, TestKMeansStraight),
    *(TestBsqFocal, TestVqFocal, TestSimVqFocal, TestResidualFocal, TestFsqMixed),
):
    _same.test_export = _same.test_exported_steps = None
# Nor does a GPU, where each code and each map was.
for _same in (TestBsqFocal, TestVqFocal, TestSimVqFocal, TestResidualFocal, TestFsqMixed):
    _same.test_gpu = _same.test_steps_on_a_gpu = _same.test_steps_can_be_recorded = None
