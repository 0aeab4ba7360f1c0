"""Silence is counted frame by frame; loudness is that of the standard's own test signals."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wavslm_core.testing import contract_tests
from wavslm_judges.config import LoudnessConfig, SilenceConfig
from wavslm_judges.levels import Loudness, Silence, loudness_lufs

TestSilence = contract_tests(SilenceConfig())
TestLoudness = contract_tests(LoudnessConfig())


def sine(seconds: float, *, hz: float = 997.0, dbfs: float = 0.0, rate_hz: int = 48_000) -> Tensor:
    time_S = torch.arange(round(seconds * rate_hz), dtype=torch.float64) / rate_hz
    return 10 ** (dbfs / 20) * torch.sin(2 * math.pi * hz * time_S)


@pytest.mark.parametrize("rate_hz", [16_000, 24_000, 44_100, 48_000])
def test_a_sine_at_full_scale_has_what_the_standard_says(rate_hz: int) -> None:
    assert loudness_lufs(sine(4, rate_hz=rate_hz), rate_hz) == pytest.approx(-3.01, abs=0.05)
    assert loudness_lufs(sine(4, dbfs=-20, rate_hz=rate_hz), rate_hz) == pytest.approx(-23.01, abs=0.05)


def test_high_sounds_are_louder_than_low_ones() -> None:
    low, middle, high = (loudness_lufs(sine(2, hz=hz), 48_000) for hz in (40.0, 997.0, 4000.0))
    assert low < middle - 5
    assert middle + 2 < high < middle + 4


def test_pauses_do_not_count() -> None:
    """The second gate leaves out what is 10 LU below the rest."""
    spoken_S = sine(4, dbfs=-20)
    paused_S = torch.cat([spoken_S, sine(4, dbfs=-60)])
    assert loudness_lufs(paused_S, 48_000) == pytest.approx(loudness_lufs(spoken_S, 48_000), abs=0.3)
    assert math.isnan(loudness_lufs(torch.zeros(48_000), 48_000))
    assert math.isnan(loudness_lufs(sine(0.3), 48_000))


def test_the_difference_has_no_sign_and_takes_any_length() -> None:
    metric = Loudness(LoudnessConfig())
    quiet_S, loud_S = sine(1, dbfs=-30), sine(3, dbfs=-24)
    for one_S, other_S in ((quiet_S, loud_S), (loud_S, quiet_S)):
        assert metric.compute(one_S, other_S, sample_rate_hz=48_000) == pytest.approx(6, abs=0.05)


def test_silence_is_a_share_of_frames() -> None:
    metric = Silence(SilenceConfig())
    spoken_S = sine(0.6, dbfs=-20, rate_hz=16_000)
    for pause_db, share in ((-200.0, 0.4), (-65.0, 0.4), (-55.0, 0.0)):
        waveform_S = torch.cat([spoken_S, sine(0.4, dbfs=pause_db, rate_hz=16_000)])
        assert metric.judge(waveform_S, sample_rate_hz=16_000) == {"": pytest.approx(share)}
    assert metric.judge(torch.zeros(16_000), sample_rate_hz=16_000) == {"": 1.0}
    assert math.isnan(metric.judge(spoken_S[:100], sample_rate_hz=16_000)[""])
    strict = Silence(SilenceConfig(below_db=30))
    waveform_S = torch.cat([spoken_S, sine(0.6, dbfs=-55, rate_hz=16_000)])
    assert strict.judge(waveform_S, sample_rate_hz=16_000) == {"": pytest.approx(0.5)}
