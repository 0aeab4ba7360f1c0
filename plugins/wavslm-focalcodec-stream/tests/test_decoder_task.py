"""The log-mel distance by which decoders are trained."""

from __future__ import annotations

import math

import pytest
import torch

from wavslm_core.data.audio import load_torchaudio
from wavslm_focalcodec_stream.decoder_task import LogMelDistance


@pytest.mark.parametrize(
    ("rate_hz", "window", "hop", "top_hz"),
    [(24000, 1024, 480, 12000), (16000, 682, 320, 8000), (48000, 2048, 960, 12000)],
)
def test_it_is_that_of_torchaudio(rate_hz: int, window: int, hop: int, top_hz: int) -> None:
    spectrogram = load_torchaudio().transforms.MelSpectrogram(
        sample_rate=rate_hz,
        n_fft=window,
        hop_length=hop,
        f_max=top_hz,
        n_mels=80,
        power=1.0,
        norm="slaney",
        mel_scale="slaney",
        pad_mode="constant",
    )
    estimate_BS, target_BS = 0.1 * torch.randn(2, 2, rate_hz // 2)
    target_BS[1, rate_hz // 4 :] = 0.0
    first, second = (spectrogram(wave_BS).clamp(min=1e-5).log() for wave_BS in (estimate_BS, target_BS))
    distance = LogMelDistance(rate_hz)
    assert float(distance(estimate_BS, target_BS)) == pytest.approx(
        float((first - second).abs().mean()), rel=1e-4
    )
    assert float(distance(target_BS, target_BS.clone())) == 0.0
    assert float(distance(2 * estimate_BS, estimate_BS)) == pytest.approx(math.log(2), rel=1e-4)


def test_silence_has_a_gradient_that_is_finite() -> None:
    silence_BS = torch.zeros(1, 4800, requires_grad=True)
    with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16):
        LogMelDistance(24000)(silence_BS, 0.1 * torch.randn(1, 4800)).backward()
    assert silence_BS.grad is not None
    assert silence_BS.grad.isfinite().all()
