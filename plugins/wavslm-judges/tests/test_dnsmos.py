"""DNSMOS: the numbers of the published script, and what must hold for any speech."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from wavslm_core.data.audio import resample
from wavslm_core.errors import AudioError
from wavslm_core.evaluation.config import metric_configs
from wavslm_core.parts.metric import Metric, ReferenceFreeMetric
from wavslm_core.parts.plugins import load_registry
from wavslm_judges.config import DnsmosConfig
from wavslm_judges.dnsmos import RATE_HZ, WINDOW_SAMPLES, Dnsmos, windows

pytestmark = pytest.mark.slow


def hum(seconds: float) -> Tensor:
    """Return gliding harmonics in syllables with a little noise, the same samples everywhere."""
    time_S = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    phase_S = np.cumsum(140 * (1 + 0.2 * np.sin(2 * np.pi * 1.7 * time_S))) / RATE_HZ
    harmonics_S = sum(np.sin(2 * np.pi * n * phase_S) / n for n in range(1, 25))
    noise_S = np.random.default_rng(0).normal(size=time_S.size)
    syllables_S = np.clip(np.sin(2 * np.pi * 2.5 * time_S), 0, None)
    return torch.from_numpy(0.2 * syllables_S * harmonics_S + 0.002 * noise_S).float().clamp(-1, 1)


@pytest.fixture(scope="module")
def judge() -> Dnsmos:
    return Dnsmos(DnsmosConfig())


@pytest.mark.parametrize(
    ("seconds", "overall", "signal", "background"),
    [(2.5, 2.1468, 2.6006, 3.3125), (9.5, 2.2090, 2.8566, 2.9573), (12.25, 2.1980, 2.8705, 2.8940)],
)
def test_the_published_numbers(
    judge: Dnsmos, seconds: float, overall: float, signal: float, background: float
) -> None:
    """As `speechmos.dnsmos.run` 0.0.1.1 gives them for the same samples."""
    found = judge.judge(hum(seconds), sample_rate_hz=RATE_HZ)
    assert found[""] == pytest.approx(overall, abs=2e-3)
    assert found["signal"] == pytest.approx(signal, abs=2e-3)
    assert found["background"] == pytest.approx(background, abs=2e-3)


@pytest.mark.parametrize(
    ("seconds", "count"), [(0.3, 1), (3.0, 3), (9.01, 1), (10.5, 1), (11.02, 2), (12.5, 3)]
)
def test_windows_cover_what_the_published_ones_do(seconds: float, count: int) -> None:
    found = windows(np.arange(round(seconds * RATE_HZ), dtype=np.float32))
    assert [window.size for window in found] == [WINDOW_SAMPLES] * len(found)
    assert all(b[0] - a[0] == RATE_HZ for a, b in pairwise(found) if seconds > 9.01)
    doubled = seconds * 2 ** max(0, math.ceil(math.log2(9.01 / seconds)))
    assert len(found) == int(np.floor(round(doubled, 6)) - 9.01) + 1 == count


def test_noise_is_heard(judge: Dnsmos) -> None:
    clean_S = hum(3.0)
    noisy_S = clean_S + 0.1 * torch.randn(clean_S.shape, generator=torch.Generator().manual_seed(1))
    clean, noisy = (judge.judge(x, sample_rate_hz=RATE_HZ) for x in (clean_S, noisy_S))
    assert noisy["background"] < clean["background"] - 0.5


def test_other_rates_are_resampled(judge: Dnsmos) -> None:
    at_16k = hum(2.5)
    at_24k = resample(at_16k, RATE_HZ, 24_000)
    expected = judge.judge(at_16k, sample_rate_hz=RATE_HZ)[""]
    assert judge.judge(at_24k, sample_rate_hz=24_000)[""] == pytest.approx(expected, abs=0.1)


def test_it_needs_no_reference(judge: Dnsmos) -> None:
    assert isinstance(judge, ReferenceFreeMetric)
    assert not DnsmosConfig.needs_reference
    speech_S = hum(2.0)
    measured = judge.measure(torch.zeros_like(speech_S), speech_S, sample_rate_hz=RATE_HZ, text="no matter")
    alone = judge.judge(speech_S, sample_rate_hz=RATE_HZ)
    assert measured == {name: (value, 1.0) for name, value in alone.items()}
    assert set(alone) == {"", *judge.extra}


def test_what_is_not_one_waveform_is_refused(judge: Dnsmos) -> None:
    for wrong in (torch.zeros(2, 100), torch.zeros(0)):
        with pytest.raises(AudioError, match=r"dnsmos rates one waveform"):
            judge.judge(wrong, sample_rate_hz=RATE_HZ)


def test_it_is_registered() -> None:
    (config,) = metric_configs(["dnsmos"])
    metric = load_registry().build(config)
    assert isinstance(metric, Metric)
    assert metric.title == "DNSMOS"
