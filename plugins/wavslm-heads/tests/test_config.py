"""Options that do not fit are refused with what would; facts follow from the options."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from wavslm_heads.config import BitwiseConfig, ChunkAutoregressiveConfig, NextTokenConfig

SIZES: dict[str, Any] = {"input_dim": 8, "vocab_size": 16}


@pytest.mark.parametrize("vocab_size", [1, 3, 1000])
def test_bits_need_a_power_of_two(vocab_size: int) -> None:
    with pytest.raises(ValidationError, match=f"vocab_size is {vocab_size}, but bits need a power of two"):
        BitwiseConfig(input_dim=8, vocab_size=vocab_size)
    for options in ({"output": "bits"}, {"output": "linear", "embedding": "bits"}):
        with pytest.raises(ValidationError, match="such as"):
            ChunkAutoregressiveConfig(input_dim=8, vocab_size=vocab_size, **options)  # type: ignore[arg-type]
    ChunkAutoregressiveConfig(input_dim=8, vocab_size=vocab_size)


def test_the_size_may_still_be_open() -> None:
    assert BitwiseConfig().vocab_size == 0


def test_options_that_contradict_each_other() -> None:
    with pytest.raises(ValidationError, match="needs embedding 'table'"):
        ChunkAutoregressiveConfig(**SIZES, output="tied", embedding="bits")
    with pytest.raises(ValidationError, match="dim 256 is no multiple of num_heads 3"):
        ChunkAutoregressiveConfig(**SIZES, inner="transformer", num_heads=3)


def test_facts() -> None:
    assert NextTokenConfig(**SIZES).facts().chunk_tokens == 1
    assert ChunkAutoregressiveConfig(**SIZES, chunk_tokens=16).facts().chunk_tokens == 16
    assert ChunkAutoregressiveConfig(**SIZES).facts().draws == "tokens"
    assert ChunkAutoregressiveConfig(**SIZES, output="bits").facts().draws == "symbols"
    assert BitwiseConfig(**SIZES).facts().draws == "symbols"
