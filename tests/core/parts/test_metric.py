"""Metrics against values that are known beforehand."""

import math
import sys
from collections.abc import Mapping
from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor

from wavslm_core.errors import AudioError, WavslmError
from wavslm_core.evaluation.config import MelDistanceConfig, StoiConfig
from wavslm_core.evaluation.metrics import MelDistance, Stoi
from wavslm_core.parts.estimates import by_speaker, json_value, ratio_estimate
from wavslm_core.parts.metric import (
    MOST_NAMED,
    Measured,
    Metric,
    measure,
    score_documents,
    unmeasured,
    warn_of_failures,
)


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


class Level(Metric[MelDistanceConfig]):
    """Cannot judge what is short; says NaN of what is loud."""

    title: ClassVar[str] = "Level"
    unit: ClassVar[str] = "V"
    better: ClassVar[Literal["higher", "lower"]] = "lower"
    extra: ClassVar[Mapping[str, str]] = {"twice": "Twice the level"}

    def compute(self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int) -> float:
        raise NotImplementedError

    def measure(
        self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int, text: str | None = None
    ) -> dict[str, Measured]:
        if len(estimate_S) < 10:
            raise IndexError("frame 3 of 2")
        level = float(estimate_S.max())
        return {"": (math.nan if level > 1 else level, 1.0), "twice": (2 * level, 1.0)}


def test_a_metric_that_fails_on_an_utterance_leaves_out_that_one_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = {"level": Level(MelDistanceConfig()), "mel_distance": MelDistance(MelDistanceConfig())}
    waveforms = {
        "a": torch.full((20,), 0.25),
        "short": torch.ones(3),
        "loud": torch.full((20,), 2.0),
        "b": torch.full((20,), 0.75),
    }
    found = [measure(metrics, x_S, x_S, sample_rate_hz=16000) for x_S in waveforms.values()]
    found.append(unmeasured(metrics, "it cannot be read"))
    documents = score_documents(metrics, [*waveforms, "gone"], found)
    level, twice, distance = documents["level"], documents["level_twice"], documents["mel_distance"]
    assert (level["mean"], level["count"], level["failed"]) == (0.5, 2, 2)
    assert level["failures"] == [
        {"id": "short", "reason": "IndexError: frame 3 of 2"},
        {"id": "gone", "reason": "it cannot be read"},
    ]
    assert (twice["mean"], twice["count"], twice["title"]) == (2.0, 3, "Twice the level")
    assert (distance["mean"], distance["count"], distance["failed"]) == (0.0, 4, 1)
    warn_of_failures(metrics, [*waveforms, "gone"], found)
    first, second = [record.message for record in caplog.records]
    assert first.startswith("metric 'level' failed on 2 of 5 utterances and leaves them out; first: short: ")
    assert second.startswith("metric 'mel_distance' failed on 1 of 5 utterances")


def test_a_metric_that_always_fails_is_no_number_and_names_the_first_failures() -> None:
    metrics = {"level": Level(MelDistanceConfig())}
    ids = [str(number) for number in range(MOST_NAMED + 5)]
    found = [measure(metrics, torch.ones(1), torch.ones(1), sample_rate_hz=16000) for _ in ids]
    document = score_documents(metrics, ids, found)["level"]
    assert math.isnan(document["mean"])
    assert (document["count"], document["failed"]) == (0, MOST_NAMED + 5)
    assert [failure["id"] for failure in document["failures"]] == ids[:MOST_NAMED]


def test_stoi_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pystoi", None)
    with pytest.raises(WavslmError, match=r"pip install 'wavslm-core\[metrics\]'"):
        Stoi(StoiConfig())


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(AudioError, match="same length"):
        MelDistance(MelDistanceConfig()).compute(torch.ones(10), torch.ones(11), sample_rate_hz=16000)


def test_estimates() -> None:
    # Equal counts: a ratio is a mean of the quotients.
    estimate = ratio_estimate([10.0, 20.0, 30.0], [10, 10, 10])
    assert (estimate.mean, estimate.count) == (2.0, 3)
    assert estimate.interval == pytest.approx(1.96 / math.sqrt(3))
    assert ratio_estimate([5.0, 0.0], [2, 0]).mean == 2.5
    assert math.isnan(ratio_estimate([5.0], [2]).interval)
    assert math.isnan(ratio_estimate([], []).mean)
    assert json_value({"a": [float("nan"), 1.0, "x"]}) == {"a": [None, 1.0, "x"]}


def test_interval_covers_the_truth() -> None:
    """Over many draws of utterances of uneven length, about 95% of the intervals hold the true ratio."""
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(400):
        counts = torch.randint(20, 200, (60,), generator=generator).double()
        levels = 4 + torch.randn(60, generator=generator).double()
        found = ratio_estimate((counts * levels).numpy(), counts.numpy())
        hits += abs(found.mean - 4.0) <= found.interval
    assert 0.91 < hits / 400 < 0.985


def test_by_speaker() -> None:
    found = by_speaker(["b", "a", "b", None], [1.0, 5.0, 3.0, 9.0], [1, 1, 1, 1])
    assert {name: estimate.mean for name, estimate in found.items()} == {"a": 5.0, "b": 2.0}
    assert by_speaker(["a", "a"], [1.0, 2.0], [1, 1]) == {}
