"""The config: what it refuses, what it states, and what it links."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from wavslm_x_transformers.backbone import XTransformer
from wavslm_x_transformers.config import XTransformerConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 5}, "an even multiple of num_heads 5"),
        ({"dim": 18}, "dim 18 must be an even multiple"),
        ({"kv_heads": 4}, "kv_heads 4 must divide num_heads 6"),
        ({"window_tokens": 3, "chunk_tokens": 4}, "a chunk has to fit into the window"),
        ({"inputs": "features"}, "Extra inputs are not permitted"),
    ],
)
def test_config_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        XTransformerConfig.model_validate(options)


def test_facts_and_links() -> None:
    facts = XTransformerConfig(input_dim=128, chunk_tokens=4).facts()
    assert (facts.input, facts.input_dim, facts.output_dim) == ("features", 128, 192)
    assert (facts.chunk_tokens, facts.window_tokens, facts.causal, facts.streams) == (4, 128, True, True)
    facts = XTransformerConfig(input="embedding", vocab_size=10, chunk_tokens=1).facts()
    assert (facts.input, facts.input_dim, facts.chunk_tokens) == ("embedding", 192, 1)
    assert XTransformerConfig.links() == {
        "input_dim": "quantizer.output_dim",
        "vocab_size": "quantizer.vocab_size",
        "chunk_tokens": "head.chunk_tokens",
    }


def test_the_feed_forward_width_is_the_one_that_was_asked_for() -> None:
    assert XTransformerConfig().inner_dim == 512
    for config in (
        XTransformerConfig(input_dim=192, chunk_tokens=4),
        XTransformerConfig(input_dim=48, dim=48, num_layers=1, ffn_dim=77, chunk_tokens=4),
    ):
        feed_forward = XTransformer(config).layers.layers[1][1]
        *_, last = (module for module in feed_forward.modules() if isinstance(module, torch.nn.Linear))
        assert last.in_features == config.inner_dim
