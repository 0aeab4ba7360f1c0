"""Streams: step equals forward, nothing sees past its chunk or window, rings stay where they are."""

from typing import Any

import pytest
import torch
from torch import Tensor

from wavslm_core.errors import StreamingError
from wavslm_core.parts.interfaces import State
from wavslm_core.parts.packing import packed_copy
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
TEN_MINUTES = 30_000
"""Tokens, 50 a second."""


def make(**options: Any) -> XTransformer:
    torch.manual_seed(0)
    backbone = XTransformer(XTransformerConfig.model_validate(SMALL | options)).eval()
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return backbone


def run(
    backbone: XTransformer, x: Tensor, size: int, state: State | None = None
) -> tuple[Tensor, list[State]]:
    state = backbone.init_state(x.shape[0]) if state is None else state
    outputs, states = [], [state]
    for piece in x.split(size, dim=1):
        output, state = backbone.step(piece, state)
        outputs.append(output)
        states.append(state)
    return torch.cat(outputs, dim=1), states


@pytest.mark.parametrize("chunks", [1, 2, 5])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"window_tokens": 13, "chunk_tokens": 5},
        {"window_tokens": 8, "chunk_tokens": 8},
        {"window_tokens": 16, "chunk_tokens": 1},
        {"kv_heads": 6},
        {"num_heads": 1, "kv_heads": 1},
        {"input": "embedding"},
        {"input_dim": 20},
    ],
    ids=["small", "odd", "window-is-chunk", "one", "ungrouped", "single-head", "embedding", "projected"],
)
@torch.no_grad()
def test_step_equals_forward(options: dict[str, Any], batch: int, chunks: int) -> None:
    backbone = make(**options)
    config = backbone.config
    size = 4 * config.window_tokens // config.chunk_tokens * config.chunk_tokens
    inputs = torch.randn(batch, size, config.input_dim)
    if config.input == "embedding":
        inputs = torch.randint(config.vocab_size, (batch, size))
    streamed, _ = run(backbone, inputs, chunks * config.chunk_tokens)
    torch.testing.assert_close(streamed, backbone(inputs), atol=1e-4, rtol=0.0)


@torch.no_grad()
def test_a_step_longer_than_the_window() -> None:
    backbone = make()
    features = torch.randn(1, 120, 48)
    streamed, _ = run(backbone, features, 60)
    torch.testing.assert_close(streamed, backbone(features), atol=1e-4, rtol=0.0)


@torch.no_grad()
def test_states_keep_their_shapes_and_no_ring_is_copied() -> None:
    _, states = run(make(), torch.randn(1, 96, 48), 4)
    assert all([t.shape for t in state] == [t.shape for t in states[0]] for state in states)
    for rings in zip(*states, strict=True):
        # The position is a number, not a cache: everything else stays where it lies in memory.
        assert rings[0].ndim == 0 or len({ring.data_ptr() for ring in rings}) == 1


@torch.no_grad()
def test_after_ten_minutes_a_stream_says_what_it_would_have_said_at_once() -> None:
    backbone = make()
    layers, window = backbone.config.num_layers, backbone.config.window_tokens
    features = torch.randn(1, (layers + 2) * window, 48)
    *rings, _ = backbone.init_state(1)
    late, _ = run(backbone, features, 4, (*rings, new_position() + TEN_MINUTES))
    # By then no layer remembers that the rings were empty.
    settled = layers * window
    torch.testing.assert_close(late[:, settled:], backbone(features)[:, settled:], atol=1e-4, rtol=0.0)


def test_only_the_distance_counts_after_ten_minutes() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 64, dtype=torch.float64).float()

    def score(start: int) -> Tensor:
        turns = rotation(start, 128, width=64, base=10000.0, device=torch.device("cpu"))
        return (rotate(query, turns[-1:]) * rotate(key, turns[:1])).sum()

    assert score(TEN_MINUTES).item() == pytest.approx(score(0).item(), abs=1e-5)
    assert score(0).item() != pytest.approx((query * key).sum().item(), abs=1e-2)


@pytest.mark.parametrize("changed", [4, 31, 50, 93, 150])
@torch.no_grad()
def test_a_change_reaches_nothing_before_its_chunk(changed: int) -> None:
    backbone = make()
    features = torch.randn(1, 180, 48)
    other = features.clone()
    other[:, changed:] = torch.randn(1, 180 - changed, 48)
    difference = (backbone(features) - backbone(other)).abs().amax(dim=(0, 2))
    start = changed // 4 * 4
    assert difference[:start].max() == 0.0
    assert difference[start] > 1e-4


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


@torch.no_grad()
def test_a_packed_copy_steps_like_the_original() -> None:
    backbone = make(input_dim=20)
    packed = packed_copy(backbone, weights="fp32")
    assert type(packed.layers.layers[0][1].to_q) is not torch.nn.Linear
    features = torch.randn(2, 48, 20)
    streamed, _ = run(packed, features, 4)
    torch.testing.assert_close(streamed, backbone(features), atol=1e-4, rtol=0.0)


def test_partial_chunks_are_refused() -> None:
    backbone = make()
    for size in (0, 3):
        with pytest.raises(StreamingError, match=f"whole chunks of 4 tokens, got {size}"):
            backbone.step(torch.zeros(1, size, 48), backbone.init_state(1))
