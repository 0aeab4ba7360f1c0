"""Options that do not fit are refused with what would; facts follow from the options."""

from typing import Any

import pytest
from pydantic import ValidationError

from wavslm_heads.chunk_autoregressive import ChunkAutoregressiveHead
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


def test_what_is_chosen_follows_from_the_ids() -> None:
    def chosen(**options: Any) -> tuple[str, str, int]:
        config = ChunkAutoregressiveConfig(input_dim=8, **options)
        # What is saved makes the same head again.
        assert ChunkAutoregressiveConfig.model_validate_json(config.model_dump_json()) == config
        return config.reads, config.predicts, config.reading_dim

    assert chosen(vocab_size=16) == ("table", "tied", 128)
    assert chosen(vocab_size=16, digits=(16,)) == ("table", "tied", 128)
    assert chosen(vocab_size=16, digits=(2, 2, 2, 2)) == ("bits", "linear", 64)
    assert chosen(vocab_size=15, digits=(5, 3)) == ("digits", "linear", 64)
    assert chosen(vocab_size=15, digits=(5, 3), output="tied") == ("table", "tied", 128)
    assert chosen(vocab_size=16, digits=(4, 4), output="bits") == ("digits", "bits", 64)
    assert chosen(vocab_size=16, embedding="bits", embedding_dim=12) == ("bits", "linear", 12)
    with pytest.raises(ValidationError, match="make 15 ids, but vocab_size is 16"):
        ChunkAutoregressiveConfig(input_dim=8, vocab_size=16, digits=(5, 3))


def test_a_saved_head_from_before_there_was_a_choice_is_the_same() -> None:
    saved = {
        "name": "chunk_autoregressive", "input_dim": 8, "vocab_size": 16, "chunk_tokens": 4, "inner": "gru",
        "dim": 16, "layers": 1, "num_heads": 4, "embedding": "table", "embedding_dim": 128,
        "context_tokens": 2, "output": "tied", "bit_dim": 128, "dropout": 0.0,
    }  # fmt: skip
    head = ChunkAutoregressiveHead(ChunkAutoregressiveConfig.model_validate(saved))
    assert head.embedding.weight.shape == (16, 128)
    assert {"embedding.weight", "output.bias", "output.project.weight"} <= set(head.state_dict())


def test_facts() -> None:
    assert NextTokenConfig(**SIZES).facts().chunk_tokens == 1
    assert ChunkAutoregressiveConfig(**SIZES, chunk_tokens=16).facts().chunk_tokens == 16
    assert ChunkAutoregressiveConfig(**SIZES).facts().draws == "tokens"
    assert ChunkAutoregressiveConfig(**SIZES, output="bits").facts().draws == "symbols"
    assert BitwiseConfig(**SIZES).facts().draws == "symbols"
