"""Metrics against values that are known beforehand."""

import math
import sys

import pytest
import torch

from wavslm_core.errors import AudioError, WavslmError
from wavslm_core.evaluation.config import MelDistanceConfig, StoiConfig
from wavslm_core.evaluation.metrics import MelDistance, Stoi
from wavslm_core.parts.metric import measured


def noisy_tone(seconds: float = 2.0, rate_hz: int = 16000) -> torch.Tensor:
    time_S = torch.arange(round(seconds * rate_hz)) / rate_hz
    generator = torch.Generator().manual_seed(0)
    carrier_S = torch.randn(time_S.numel(), generator=generator)
    return 0.1 * carrier_S * (1 + torch.sin(2 * math.pi * 4 * time_S))


@pytest.mark.parametrize("rate_hz", [16000, 24000])
def test_mel_distance_of_a_gain_is_the_gain(rate_hz: int) -> None:
    metric = MelDistance(MelDistanceConfig())
    noise_S = torch.randn(rate_hz, generator=torch.Generator().manual_seed(0))
    assert metric.compute(noise_S, noise_S, sample_rate_hz=rate_hz) == 0.0
    assert metric.compute(noise_S, noise_S / 2, sample_rate_hz=rate_hz) == pytest.approx(6.0206, abs=1e-3)
    # Very short and silent recordings still have a distance.
    assert metric.compute(noise_S[:50], noise_S[:50] * 2, sample_rate_hz=rate_hz) == pytest.approx(
        6.0206, abs=1e-3
    )
    silence_S = torch.zeros(rate_hz)
    assert metric.compute(silence_S, silence_S, sample_rate_hz=rate_hz) == 0.0


def test_mel_distance_ignores_the_common_level_and_what_is_below_the_range() -> None:
    metric = MelDistance(MelDistanceConfig(range_db=40))
    reference_S, estimate_S = noisy_tone(), noisy_tone().roll(100)
    loud = metric.compute(reference_S, estimate_S, sample_rate_hz=16000)
    quiet = metric.compute(reference_S / 8, estimate_S / 8, sample_rate_hz=16000)
    assert loud == pytest.approx(quiet, rel=1e-4)
    burst_S = torch.zeros(16000)
    burst_S[8000] = 1.0
    assert metric.compute(burst_S, burst_S + 1e-6 * torch.randn(16000), sample_rate_hz=16000) < 0.01


def test_stoi_falls_with_noise() -> None:
    pytest.importorskip("pystoi")
    metric = Stoi(StoiConfig())
    clean_S = noisy_tone()
    noise_S = torch.randn(clean_S.numel(), generator=torch.Generator().manual_seed(1)) * clean_S.std()
    scores = [metric.compute(clean_S, clean_S + g * noise_S, sample_rate_hz=16000) for g in (0.0, 0.5, 2.0)]
    assert scores[0] == pytest.approx(1.0, abs=1e-6)
    assert scores[0] > scores[1] > scores[2]
    assert math.isnan(metric.compute(clean_S[:3000], clean_S[:3000], sample_rate_hz=16000))
    assert metric.compute(clean_S, torch.zeros_like(clean_S), sample_rate_hz=16000) == 0.0
    assert math.isnan(metric.compute(torch.zeros_like(clean_S), clean_S, sample_rate_hz=16000))


@pytest.mark.parametrize("rate_hz", [8000, 16000, 24000])
def test_stoi_is_not_a_number_up_to_the_length_from_which_it_is_defined(rate_hz: int) -> None:
    """Below 25.6 ms pystoi raises, and up to 30 frames it has no answer."""
    pytest.importorskip("pystoi")
    metric = Stoi(StoiConfig())
    noise_S = torch.rand(rate_hz, generator=torch.Generator().manual_seed(0)) - 0.5
    longest = math.floor(rate_hz * (256 + 30 * 128) / 10_000)
    for size in (1, rate_hz // 100, rate_hz // 40, longest):
        assert math.isnan(metric.compute(noise_S[:size], noise_S[:size], sample_rate_hz=rate_hz)), size
    size = longest + rate_hz // 100
    assert metric.compute(noise_S[:size], noise_S[:size], sample_rate_hz=rate_hz) == pytest.approx(1.0)


def test_stoi_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pystoi", None)
    with pytest.raises(WavslmError, match=r"pip install 'wavslm-core\[metrics\]'"):
        Stoi(StoiConfig())


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(AudioError, match="same length"):
        MelDistance(MelDistanceConfig()).compute(torch.ones(10), torch.ones(11), sample_rate_hz=16000)


@pytest.mark.parametrize(
    ("given", "what"), [("big", "a str"), (torch.zeros(3), r"a Tensor of shape \[3\]"), (None, "a NoneType")]
)
def test_what_is_no_number_says_what_compute_returns(given: object, what: str) -> None:
    with pytest.raises(
        TypeError, match=f"^gave {what}; `compute`, or `judge` for each name, returns a float"
    ):
        measured(given)  # type: ignore[arg-type]
