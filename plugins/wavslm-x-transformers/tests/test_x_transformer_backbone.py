"""Against the library's own forward pass, and what the contract does not ask: memory, long streams, rings."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from x_transformers.x_transformers import AttentionLayers

from wavslm_core.parts.streaming import new_position
from wavslm_x_transformers.backbone import XTransformer
from wavslm_x_transformers.config import XTransformerConfig
from wavslm_x_transformers.rotary import rotate, rotation

SMALL: dict[str, Any] = {
    "num_layers": 3,
    "chunk_tokens": 4,
    "dim": 48,
    "num_heads": 6,
    "window_tokens": 24,
    "input_dim": 48,
    "vocab_size": 50,
}
SHAPES: dict[str, dict[str, Any]] = {
    "small": {},
    "odd-window": {"window_tokens": 13, "chunk_tokens": 5},
    "window-is-chunk": {"window_tokens": 8, "chunk_tokens": 8},
    "one-token-chunks": {"window_tokens": 16, "chunk_tokens": 1},
    "wide-window": {"window_tokens": 90},
    "one-key-head": {"kv_heads": 1},
    "ungrouped": {"kv_heads": 6},
    "single-head": {"num_heads": 1, "kv_heads": 1},
}


TEN_MINUTES = 30_000
"""Tokens, 50 a second."""


def make(**options: Any) -> XTransformer:
    torch.manual_seed(0)
    backbone = XTransformer(XTransformerConfig.model_validate(SMALL | options)).eval()
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return backbone


def library_forward(backbone: XTransformer, x_BTD: Tensor) -> Tensor:
    """Run the library's layers, with its own rotary positions, under a mask that says what is visible."""
    config = backbone.config
    layers = AttentionLayers(
        dim=config.dim,
        depth=config.num_layers,
        heads=config.num_heads,
        use_rmsnorm=True,
        attn_dim_head=config.head_dim,
        attn_kv_heads=config.kv_heads,
        ff_mult=(config.inner_dim + 0.5) / config.dim,
        ff_glu=True,
        ff_swish=True,
        rotary_pos_emb=True,
        rotary_emb_dim=config.head_dim,
        verbose=False,
    ).eval()
    missing, unexpected = layers.load_state_dict(backbone.layers.state_dict(), strict=False)
    assert (missing, unexpected) == (["rotary_pos_emb.inv_freq"], [])
    place = torch.arange(x_BTD.shape[1])
    end = (place[:, None] // config.chunk_tokens + 1) * config.chunk_tokens
    visible = (place < end) & (place >= end - config.window_tokens)
    result: Tensor = layers(x_BTD, attn_mask=visible)
    return result


@pytest.mark.parametrize("size", [3, 64, 200, 257])
@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_forward_is_the_library_s(shape: str, size: int) -> None:
    backbone = make(**SHAPES[shape])
    features = torch.randn(2, size, 48)
    torch.testing.assert_close(backbone(features), library_forward(backbone, features), atol=2e-4, rtol=0.0)


@torch.no_grad()
def test_ids_in_padded_places_do_not_matter() -> None:
    backbone = make(input="embedding")
    tokens = torch.randint(50, (2, 30))
    tokens[1, 10:] = -100
    batch = backbone(tokens, lengths=torch.tensor([30, 10]))
    torch.testing.assert_close(batch[1:, :10], backbone(tokens[1:, :10]), atol=1e-5, rtol=0.0)


class LargestTensor(TorchDispatchMode):
    """Notes how many numbers the largest tensor holds that any operation makes."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return result


def test_nothing_grows_with_the_square_of_the_length() -> None:
    backbone = make()
    lengths = []
    for size in (1024, 4096):
        features = torch.randn(2, size, 48)
        with LargestTensor() as largest:  # type: ignore[no-untyped-call]
            backbone(features, lengths=torch.tensor([size - 1, size])).square().sum().backward()
        lengths.append(largest.numbers)
    assert lengths[1] <= 4.1 * lengths[0]
    # Scores would be 88 numbers a query and head; what the feed-forward parts make is the largest.
    assert lengths[0] <= 1.1 * 2 * 1024 * 2 * backbone.config.inner_dim


@torch.no_grad()
def test_after_ten_minutes_a_stream_says_what_it_would_have_said_at_once() -> None:
    backbone = make()
    layers, window = backbone.config.num_layers, backbone.config.window_tokens
    features = torch.randn(1, (layers + 2) * window, 48)
    *rings, _ = backbone.init_state(1)
    state, late = (*rings, new_position() + TEN_MINUTES), []
    for chunk_1CD in features.split(4, dim=1):
        hidden_1CD, state = backbone.step(chunk_1CD, state)
        late.append(hidden_1CD)
    # By then no layer remembers that the rings were empty.
    settled = layers * window
    expected = backbone(features)[:, settled:]
    torch.testing.assert_close(torch.cat(late, dim=1)[:, settled:], expected, atol=1e-4, rtol=0.0)


def test_only_the_distance_counts_after_ten_minutes() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 64, dtype=torch.float64).float()

    def score(start: int) -> Tensor:
        turns = rotation(start, 128, width=64, base=10000.0, device=torch.device("cpu"))
        return (rotate(query, turns[-1:]) * rotate(key, turns[:1])).sum()

    assert score(TEN_MINUTES).item() == pytest.approx(score(0).item(), abs=1e-5)
    assert score(0).item() != pytest.approx((query * key).sum().item(), abs=1e-2)


@pytest.mark.parametrize("changed", [0, 11, 70, 128])
@torch.no_grad()
def test_a_change_reaches_as_far_as_the_window(changed: int) -> None:
    backbone = make(num_layers=1)
    features = torch.randn(1, 180, 48)
    other = features.clone()
    other[:, changed] += 1.0
    reached = (backbone(features) - backbone(other)).abs().amax(dim=(0, 2)).nonzero().flatten()
    # Chunks of 4 see 24 tokens, their own included.
    last_chunk = (changed + 24 - 4) // 4
    assert (reached[0].item(), reached[-1].item()) == (changed // 4 * 4, last_chunk * 4 + 3)
