"""The filterbank hears what it should."""

from __future__ import annotations

import math

import pytest
import torch

from wavslm_wavlm.config import WavLMConfig
from wavslm_wavlm.encoder import WavLM
from wavslm_wavlm.filterbank import PHASES, TILT_FROM_HZ, filterbank


@pytest.mark.parametrize("hz", [200.0, 1000.0, 4000.0])
@pytest.mark.parametrize("phase", [0.0, 1.0, 2.5])
def test_a_tone_rings_in_its_band_whatever_its_phase(hz: float, phase: float) -> None:
    weights = filterbank(512, 640, sample_rate_hz=16000)
    tone = torch.sin(2 * math.pi * hz * torch.arange(640) / 16000 + phase)
    responses = torch.nn.functional.gelu((weights @ tone)[:, 0]).unflatten(0, (-1, PHASES)).sum(-1)
    top = 2595 * math.log10(1 + 7600 / 700)
    band = round(2595 * math.log10(1 + hz / 700) / top * len(responses)) - 1
    assert abs(int(responses.argmax()) - band) <= 1
    assert 2.0 < responses.max().item() / (1 + hz / TILT_FROM_HZ) < 10.0


def test_an_encoder_can_start_with_it() -> None:
    config = WavLMConfig(
        hidden_dims=(256,), kernel_sizes=(640,), strides=(320,), num_layers=1, dim=32, ffn_dim=64,
        num_heads=4, conv_pos=8, conv_pos_groups=4, causal=True, window_size=16, conv_bias=True,
        front_end_init="filterbank",
    )  # fmt: skip
    encoder = WavLM(config)
    weight = encoder.feature_extractor.layers[0].conv.weight  # type: ignore[union-attr]
    assert torch.equal(weight, filterbank(256, 640, sample_rate_hz=16000))
    state = encoder.init_state(1)
    waveform = torch.randn(1, 1280 * 6) * 0.1
    pieces = []
    for chunk in waveform.split(1280, dim=1):
        features, state = encoder.step(chunk, state)
        pieces.append(features)
    assert torch.allclose(torch.cat(pieces, 1), encoder(waveform), atol=1e-4)
