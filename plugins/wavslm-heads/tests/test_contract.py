"""The contract of heads, over every way to build one."""

from typing import Any

from wavslm_core.testing import contract_tests
from wavslm_heads.config import BitwiseConfig, ChunkAutoregressiveConfig, NextTokenConfig

SIZES: dict[str, Any] = {"input_dim": 16, "vocab_size": 16}
INNER: dict[str, Any] = {**SIZES, "dim": 16, "embedding_dim": 8, "bit_dim": 8}

TestNextToken = contract_tests(NextTokenConfig(**SIZES))
TestGru = contract_tests(ChunkAutoregressiveConfig(**INNER, output="linear"))
TestGruOfContext = contract_tests(
    ChunkAutoregressiveConfig(**INNER, layers=2, context_tokens=1, dropout=0.3, output="linear")
)
TestGruOfOne = contract_tests(ChunkAutoregressiveConfig(**INNER, chunk_tokens=1))
TestGruOfEight = contract_tests(ChunkAutoregressiveConfig(**INNER, chunk_tokens=8))
TestTransformer = contract_tests(ChunkAutoregressiveConfig(**INNER, inner="transformer", layers=2))
TestTied = contract_tests(ChunkAutoregressiveConfig(**INNER, output="tied"))
TestBitsInside = contract_tests(ChunkAutoregressiveConfig(**INNER, output="bits", embedding="bits"))
TestDigits = contract_tests(ChunkAutoregressiveConfig(**INNER, digits=(4, 2, 2), embedding="digits"))
TestDigitsChosen = contract_tests(
    ChunkAutoregressiveConfig(input_dim=16, vocab_size=15, dim=16, digits=(5, 3), inner="transformer")
)
TestBitsChosen = contract_tests(ChunkAutoregressiveConfig(**SIZES, dim=16, digits=(2, 2, 2, 2)))
TestBitwise = contract_tests(BitwiseConfig(**SIZES, bit_dim=8))
