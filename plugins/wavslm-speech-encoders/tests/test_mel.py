"""Log-mel frames: against a plain definition, padded, and what a config may not ask for."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from wavslm_core.data.audio import load_torchaudio
from wavslm_speech_encoders.config import MelConfig
from wavslm_speech_encoders.mel import Mel

SHAPES: dict[str, dict[str, Any]] = {
    "default": {},
    "odd-window": {"window_samples": 1000, "bands": 64},
    "window-is-hop": {"window_samples": 320, "bands": 40},
    "other-rate": {"sample_rate_hz": 24000, "hop_samples": 480, "window_samples": 1200, "bands": 100},
}


def make(**options: Any) -> Mel:
    return Mel(MelConfig.model_validate(options)).eval()


def frame(encoder: Mel, waveform_S: Tensor, index: int) -> Tensor:
    """Compute one frame from the definition: the samples that end with its hop, silence around them."""
    config = encoder.config
    end = (index + 1) * config.hop_samples
    silence = torch.zeros(config.window_samples)
    samples = torch.cat([silence, waveform_S, silence])[end : end + config.window_samples].double()
    place = torch.arange(config.window_samples)
    window = (math.pi * place / config.window_samples).sin().square()
    amplitude = torch.fft.rfft(samples * window).abs() * 2 / window.sum()
    filters = load_torchaudio().functional.melscale_fbanks(
        config.window_samples // 2 + 1, 0.0, config.sample_rate_hz / 2, config.bands, config.sample_rate_hz
    )
    logarithm = (amplitude @ filters.double() + config.floor).log()
    return ((logarithm - config.mean_nepers) / config.scale_nepers).float()


@pytest.mark.parametrize("samples", [1, 320, 7777, 16000])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_frame_is_its_definition(shape: str, samples: int) -> None:
    encoder = make(**SHAPES[shape])
    waveform = torch.randn(2, samples, generator=torch.Generator().manual_seed(0)) * 0.1
    features = encoder(waveform)
    count = int(encoder.frame_lengths(torch.tensor(samples)))
    assert features.shape == (2, count, encoder.config.bands)
    for item in range(2):
        expected = torch.stack([frame(encoder, waveform[item], index) for index in range(count)])
        torch.testing.assert_close(features[item], expected, atol=1e-4, rtol=0.0)


def test_a_sinusoid_is_heard_in_its_band() -> None:
    encoder = make(window_samples=2048)
    waveform = (2 * math.pi * 1000 / 16000 * torch.arange(16000)).sin()[None]
    # 1 kHz is 1000 of the 2840 mel up to 8 kHz, and n bands have n + 2 edges.
    assert abs(int(encoder(waveform)[0, 25].argmax()) - (round(1000 / 2840 * 81) - 1)) <= 1


def test_a_change_reaches_its_hop_and_its_window() -> None:
    encoder = make()
    waveform = torch.randn(1, 32000)
    other = waveform.clone()
    other[:, 9700] += 1.0
    changed = (encoder(waveform) - encoder(other)).abs().amax(dim=(0, 2)).nonzero().flatten().tolist()
    assert changed == [30, 31]


def test_no_autocast_and_no_weights() -> None:
    encoder = make()
    waveform = torch.randn(1, 3200)
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder(waveform)
    assert features.dtype == torch.float32
    assert torch.equal(features, encoder(waveform))
    assert not list(encoder.parameters())
    assert not encoder.state_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_samples": 200}, "window_samples 200 is below hop_samples 320"),
        ({"bands": 81}, "Give at most 80"),
        ({"floor": 0}, "greater than 0"),
    ],
)
def test_config_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MelConfig.model_validate(options)


def test_facts() -> None:
    facts = MelConfig().facts()
    assert (facts.sample_rate_hz, facts.hop_samples, facts.output_dim) == (16000, 320, 80)
    assert (facts.chunk_frames, facts.window_frames, facts.causal, facts.streams) == (1, 2, True, True)
