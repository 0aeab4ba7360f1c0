"""step == forward, states of constant shape, causality, and streams that may not be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from wavslm_core.errors import StreamingError
from wavslm_core.parts.interfaces import Decoder, State
from wavslm_core.parts.packing import packed_copy
from wavslm_focalcodec_stream.config import FocalCodecStreamConfig
from wavslm_focalcodec_stream.decoder_config import IstftConfig, VocosConfig, WaveNeXtConfig
from wavslm_focalcodec_stream.decoders import Istft, Vocos, WaveNeXt
from wavslm_focalcodec_stream.quantizer import FocalCodecStream

SMALL: dict[str, Any] = {"input_dim": 20, "dim": 16, "ffn_dim": 24, "num_layers": 2}


def make_quantizer(window_size: int = 24, **options: Any) -> FocalCodecStream:
    shared = {"focal_window": 5, "focal_factor": 2, "window_size": window_size}
    config = FocalCodecStreamConfig(
        input_dim=20,
        codebook_size=64,
        causal=options.pop("causal", True),
        compressor={"hidden_dims": (20, 16, 16), **shared, **options.pop("compressor", {})},
        decompressor={
            "hidden_dims": (16, 16, 20),
            "last_window_size": window_size // 2,
            **shared,
            **options.pop("decompressor", {}),
        },
    )
    return FocalCodecStream(config).eval()


def make_decoder(name: str) -> Decoder[Any]:
    if name == "wavenext":
        return WaveNeXt(WaveNeXtConfig(hop_samples=48, **SMALL)).eval()
    if name == "vocos":
        return Vocos(VocosConfig(hop_samples=32, n_fft=64, causal=True, **SMALL)).eval()
    overlap = {"istft": 4, "istft_half": 2}[name]
    return Istft(IstftConfig(hop_samples=32, n_fft=32 * overlap, **SMALL)).eval()


def run(step: Any, state: State, x: Tensor, size: int) -> tuple[Tensor, State]:
    """Stream `x` in pieces; check that the state keeps its shapes and that no cache is copied."""
    shapes = [tensor.shape for tensor in state]
    places = [tensor.data_ptr() for tensor in state if tensor.ndim == 3]
    assert places
    outputs = []
    for piece in x.split(size, dim=1):
        output, state = step(piece, state)
        assert [tensor.shape for tensor in state] == shapes
        assert [tensor.data_ptr() for tensor in state if tensor.ndim == 3] == places
        outputs.append(output)
    return torch.cat(outputs, dim=1), state


@pytest.mark.parametrize("window_size", [24, 96])
@pytest.mark.parametrize("chunks", [1, 2, 5, 13])
def test_quantizer_step_equals_forward(window_size: int, chunks: int) -> None:
    quantizer = make_quantizer(window_size)
    features = torch.randn(3, 4 * window_size + 8, 20)
    latents, _ = run(quantizer.compressor.step, quantizer.init_encode_state(3), features, chunks * 4)
    assert torch.allclose(latents, quantizer.compressor(features), atol=1e-4)
    tokens = quantizer.encode(features)
    streamed, _ = run(quantizer.encode_step, quantizer.init_encode_state(3), features, chunks * 4)
    assert torch.equal(streamed, tokens)
    decoded, _ = run(quantizer.decode_step, quantizer.init_decode_state(3), tokens, chunks * 4)
    assert torch.allclose(decoded, quantizer.decode(tokens), atol=1e-4)


def test_quantizer_at_a_lower_token_rate_streams() -> None:
    quantizer = make_quantizer(
        compressor={"downscale_factors": (1, 2, 1)}, decompressor={"upscale_factors": (1, 2, 1)}
    )
    assert quantizer.config.facts().chunk_tokens == 2
    features = torch.randn(2, 48, 20)
    tokens, _ = run(quantizer.encode_step, quantizer.init_encode_state(2), features, 4)
    assert tokens.shape == (2, 24)
    assert torch.equal(tokens, quantizer.encode(features))
    decoded, _ = run(quantizer.decode_step, quantizer.init_decode_state(2), tokens, 2)
    assert torch.allclose(decoded, quantizer.decode(tokens), atol=1e-4)


def test_packed_quantizer_steps_alike() -> None:
    quantizer = make_quantizer()
    features = torch.randn(1, 40, 20)
    packed = packed_copy(quantizer, weights="fp32")
    latents, _ = run(packed.compressor.step, packed.init_encode_state(1), features, 4)
    assert torch.allclose(latents, quantizer.compressor(features), atol=1e-4)


@pytest.mark.parametrize("name", ["wavenext", "vocos", "istft", "istft_half"])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_decoder_steps_and_flush_equal_forward(name: str, frames: int) -> None:
    decoder = make_decoder(name)
    features = torch.randn(2, 60, 20)
    streamed, state = run(decoder.step, decoder.init_state(2), features, frames)
    delay = decoder.config.facts().delay_samples
    last = decoder.flush(state)
    assert last.shape == (2, delay)
    whole = torch.cat([streamed, last], dim=1)[:, delay:]
    expected = decoder(features)
    assert expected.shape == (2, 60 * decoder.config.hop_samples)
    assert torch.allclose(whole, expected, atol=1e-5)


def test_quantizer_is_causal_in_chunks() -> None:
    quantizer = make_quantizer()
    features = torch.randn(1, 64, 20)
    changed = features.clone()
    changed[:, 32:] += 1.0
    before, after = quantizer.compressor(features), quantizer.compressor(changed)
    assert torch.equal(before[:, :32], after[:, :32])
    assert not torch.allclose(before[:, 32:], after[:, 32:])
    tokens = quantizer.encode(features)
    other = tokens.clone()
    other[:, 32:] = (other[:, 32:] + 1) % 64
    assert torch.allclose(quantizer.decode(tokens)[:, :32], quantizer.decode(other)[:, :32], atol=1e-6)
    assert not torch.allclose(quantizer.decode(tokens)[:, 32:], quantizer.decode(other)[:, 32:])


@pytest.mark.parametrize("name", ["wavenext", "vocos", "istft"])
def test_decoder_is_causal_up_to_its_delay(name: str) -> None:
    decoder = make_decoder(name)
    facts = decoder.config.facts()
    features = torch.randn(1, 40, 20)
    changed = features.clone()
    changed[:, 20:] += 1.0
    before, after = decoder(features), decoder(changed)
    end = 20 * facts.hop_samples - facts.delay_samples
    assert torch.allclose(before[:, :end], after[:, :end], atol=1e-6)
    assert not torch.allclose(before[:, end:], after[:, end:], atol=1e-4)


def test_parts_of_chunks_and_offline_models_do_not_stream() -> None:
    quantizer = make_quantizer()
    with pytest.raises(StreamingError, match="whole chunks of 4 frames"):
        quantizer.decode_step(torch.zeros(1, 3, dtype=torch.int64), quantizer.init_decode_state(1))
    with pytest.raises(StreamingError, match="does not stream"):
        make_quantizer(causal=False).init_encode_state(1)
    offline = WaveNeXt(WaveNeXtConfig(hop_samples=48, causal=False, **SMALL))
    with pytest.raises(StreamingError, match="does not stream"):
        offline.init_state(1)
