"""Streaming: step equals forward, nothing sees past its chunk, state keeps its shapes and its memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wavslm_core.errors import StreamingError
from wavslm_core.parts.interfaces import State
from wavslm_core.parts.packing import packed_copy
from wavslm_wavlm.backbone import WavLMUpper
from wavslm_wavlm.config import WavLMConfig, WavLMUpperConfig
from wavslm_wavlm.encoder import WavLM

SMALL = {"dim": 32, "ffn_dim": 48, "num_heads": 4, "num_buckets": 20, "max_distance": 40, "num_layers": 3}


def randomise(module: torch.nn.Module) -> None:
    torch.manual_seed(0)
    for name, parameter in module.named_parameters():
        if "norm" in name or parameter.ndim != 3:
            torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)


def make_encoder(**options: object) -> WavLM:
    config = WavLMConfig.model_validate(
        {"hidden_dims": (16,) * 7, "conv_pos": 16, "conv_pos_groups": 4, "causal": True, "window_size": 24}
        | SMALL
        | options
    )
    encoder = WavLM(config).eval()
    randomise(encoder)
    return encoder


def make_backbone(**options: object) -> WavLMUpper:
    config = WavLMUpperConfig.model_validate(
        {"window_size": 24, "lookahead_size": 3, "input_dim": 32, "vocab_size": 50} | SMALL | options
    )
    backbone = WavLMUpper(config).eval()
    randomise(backbone)
    return backbone


def run(module: WavLM | WavLMUpper, x: Tensor, size: int) -> tuple[Tensor, list[State]]:
    state = module.init_state(x.shape[0])
    outputs, states = [], [state]
    for piece in x.split(size, dim=1):
        output, state = module.step(piece, state)
        outputs.append(output)
        states.append(state)
    return torch.cat(outputs, dim=1), states


@pytest.mark.parametrize("chunks", [1, 2, 5])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lookahead_size": 4, "window_size": 13},
        {"layer_norm_first": False},
        {"final_norm": True, "output_layer": 2},
        {"final_norm": True, "conv_pos": 9},
    ],
    ids=["small", "odd-window", "post-norm", "inner-layer", "final-norm"],
)
@torch.no_grad()
def test_encoder_step_equals_forward(options: dict[str, object], batch: int, chunks: int) -> None:
    encoder = make_encoder(**options)
    config = encoder.config
    waveform = torch.randn(batch, 4 * config.window_size // config.chunk_frames * config.chunk_frames * 320)
    streamed, _ = run(encoder, waveform, chunks * config.chunk_frames * 320)
    torch.testing.assert_close(streamed, encoder(waveform), atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("chunks", [1, 2, 5])
@pytest.mark.parametrize(
    "options",
    [{}, {"lookahead_size": 4, "window_size": 13}, {"input": "embedding"}, {"input_dim": 20}],
    ids=["small", "odd-window", "embedding", "projected"],
)
@torch.no_grad()
def test_backbone_step_equals_forward(options: dict[str, object], chunks: int) -> None:
    backbone = make_backbone(**options)
    config = backbone.config
    size = 4 * config.window_size // config.chunk_tokens * config.chunk_tokens
    inputs = torch.randn(2, size, config.input_dim)
    if config.input == "embedding":
        inputs = torch.randint(config.vocab_size, (2, size))
    streamed, _ = run(backbone, inputs, chunks * config.chunk_tokens)
    torch.testing.assert_close(streamed, backbone(inputs), atol=1e-4, rtol=0.0)


@torch.no_grad()
def test_large_steps_of_the_positional_convolution() -> None:
    encoder = make_encoder()
    waveform = torch.randn(2, 96 * 320)
    streamed, _ = run(encoder, waveform, 48 * 320)
    torch.testing.assert_close(streamed, encoder(waveform), atol=1e-4, rtol=0.0)


@torch.no_grad()
def test_states_keep_their_shapes_and_no_cache_is_copied() -> None:
    for module, x, size in (
        (make_backbone(), torch.randn(1, 96, 32), 4),
        (make_encoder(), torch.randn(1, 96 * 320), 4 * 320),
    ):
        _, states = run(module, x, size)
        assert all([t.shape for t in state] == [t.shape for t in states[0]] for state in states)
        for caches in zip(*states, strict=True):
            # Positions are numbers, not caches: everything else stays where it lies in memory.
            assert caches[0].ndim == 0 or len({cache.data_ptr() for cache in caches}) == 1


@pytest.mark.parametrize("batch", [1, 3])
@torch.no_grad()
def test_a_packed_encoder_steps_like_the_original(batch: int) -> None:
    encoder = make_encoder(dim=64)
    waveform = torch.randn(batch, 48 * 320)
    packed = packed_copy(encoder, weights="fp32")
    assert packed.encoder.positional_embedding.conv.packed is not None
    for chunks in (1, 3):
        streamed, _ = run(packed, waveform, chunks * 4 * 320)
        torch.testing.assert_close(streamed, encoder(waveform), atol=1e-4, rtol=0.0)
    torch.testing.assert_close(packed(waveform), encoder(waveform), atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("changed_frame", [4, 31, 50, 93])
@torch.no_grad()
def test_a_change_reaches_nothing_before_its_chunk(changed_frame: int) -> None:
    encoder = make_encoder()
    waveform = torch.randn(1, 96 * 320)
    changed = waveform.clone()
    changed[:, changed_frame * 320 :] = torch.randn(1, (96 - changed_frame) * 320)
    difference = (encoder(waveform) - encoder(changed)).abs().amax(dim=(0, 2))
    chunk_start = changed_frame // 4 * 4
    assert difference[:chunk_start].max() == 0.0
    assert difference[chunk_start] > 1e-4

    backbone = make_backbone()
    features = torch.randn(1, 96, 32)
    changed = features.clone()
    changed[:, changed_frame:] = torch.randn(1, 96 - changed_frame, 32)
    difference = (backbone(features) - backbone(changed)).abs().amax(dim=(0, 2))
    assert difference[:chunk_start].max() == 0.0
    assert difference[chunk_start] > 1e-4


def test_partial_chunks_and_offline_encoders_are_refused() -> None:
    encoder = make_encoder()
    with pytest.raises(StreamingError, match="whole chunks of 1280 samples, got 1000"):
        encoder.step(torch.zeros(1, 1000), encoder.init_state(1))
    backbone = make_backbone()
    with pytest.raises(StreamingError, match="whole chunks of 4 frames, got 3"):
        backbone.step(torch.zeros(1, 3, 32), backbone.init_state(1))
    offline = make_encoder(causal=False)
    assert not offline.config.facts().streams
    with pytest.raises(StreamingError, match="does not stream"):
        offline.init_state(1)


def test_gradients_reach_every_parameter() -> None:
    for module, inputs in (
        (make_backbone(input_dim=20), torch.randn(2, 50, 20)),
        (make_backbone(input="embedding"), torch.randint(50, (2, 50))),
        (make_encoder(), torch.randn(2, 50 * 320)),
        (make_encoder(causal=False), torch.randn(2, 50 * 320)),
    ):
        module.train()
        module(inputs).square().mean().backward()
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_dropout_only_in_training() -> None:
    backbone = make_backbone(dropout=0.3)
    features = torch.randn(1, 40, 32)
    assert torch.equal(backbone(features), backbone(features))
    backbone.train()
    assert not torch.equal(backbone(features), backbone(features))
