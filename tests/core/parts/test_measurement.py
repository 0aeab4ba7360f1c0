"""What metrics told: failures cost no other, originals stand beside, and words that were heard are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor

from wavslm_core.evaluation.config import MelDistanceConfig
from wavslm_core.evaluation.metrics import MelDistance
from wavslm_core.parts.measurement import (
    MOST_NAMED,
    heard_documents,
    joined,
    measure,
    measure_pair,
    score_documents,
    unmeasured,
    warn_of_failures,
)
from wavslm_core.parts.metric import Measured, Metric


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


class Listener(Level):
    """Hears how loud it is, and counts what is louder than it should be."""

    extra: ClassVar[Mapping[str, str]] = {}

    def hear(self, waveform_S: Tensor, *, sample_rate_hz: int) -> str:
        if float(waveform_S.max()) > 9:
            raise RuntimeError("too loud to listen")
        return f"level {float(waveform_S.max()):g}"

    def measure(
        self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int, text: str | None = None
    ) -> dict[str, Measured]:
        return {"": (float(estimate_S.max()), float(len(estimate_S)))}

    def measure_original(
        self, original_S: Tensor, *, sample_rate_hz: int, text: str | None = None
    ) -> dict[str, Measured]:
        return self.measure(original_S, original_S, sample_rate_hz=sample_rate_hz)


def test_originals_stand_beside_and_words_are_kept() -> None:
    metrics = {"listener": Listener(MelDistanceConfig()), "mel_distance": MelDistance(MelDistanceConfig())}
    levels = {"a": (0.5, 1.5), "b": (1.0, 2.5), "loud": (1.0, 10.0)}
    pairs = [
        measure_pair(metrics, torch.full((10,), real), torch.full((10,), fake), sample_rate_hz=16000)
        for real, fake in levels.values()
    ]
    found, originals = zip(*pairs, strict=True)
    documents = score_documents(metrics, list(levels), found, originals)
    listener = documents["listener"]
    assert (listener["mean"], listener["failed"]) == (pytest.approx(4.0 / 20), 1)
    assert listener["original"]["mean"] == pytest.approx(2.5 / 30)
    # Of those that both have: (1.5 + 2.5 - 0.5 - 1.0) over 20.
    assert (listener["difference"]["mean"], listener["difference"]["count"]) == (pytest.approx(2.5 / 20), 2)
    # A recording is at no distance from itself: that says nothing.
    assert "original" not in documents["mel_distance"]
    heard = heard_documents(list(levels), ["one", None, None], pairs)
    assert heard[0] == {
        "id": "a",
        "said": "one",
        "original": {"listener": "level 0.5"},
        "estimate": {"listener": "level 1.5"},
    }
    assert heard[2]["estimate"] == {}
    assert heard_documents(["a"], ["one"], [(unmeasured(metrics, "gone"),) * 2]) == []


def test_several_measurements_of_one_utterance_are_one() -> None:
    metrics = {"level": Level(MelDistanceConfig())}
    waves = (torch.full((20,), 0.25), torch.full((20,), 0.5), torch.ones(3))
    one = joined([measure(metrics, wave_S, wave_S, sample_rate_hz=16000) for wave_S in waves])
    assert one.values["level"] == (0.75, 2.0)
    assert one.scores == {"level": 0.375, "level_twice": 0.75}
    assert one.failures == {"level": "IndexError: frame 3 of 2"}
