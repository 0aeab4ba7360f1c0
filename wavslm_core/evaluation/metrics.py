"""What a metric is: a number that says how close an estimate is to its reference, or how good it is alone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar

from torch import Tensor

from wavslm_core.configs import MetricConfig
from wavslm_core.errors import AudioError
from wavslm_core.evaluation.estimates import ratio_estimate

MetricConfigT = TypeVar("MetricConfigT", bound=MetricConfig)


Measured = tuple[float, float]
"""A sum and what it is over: (value, 1), (wrong words, words); (0, 0) where the measure is not defined.

Over many utterances, the score is the ratio of the totals.
"""


class Metric(ABC, Generic[MetricConfigT]):
    """Compares audio with a reference. Built as `Class(config)`; building it checks that it can run."""

    title: ClassVar[str]
    """What the report calls it."""
    unit: ClassVar[str] = ""
    """Unit of the number, empty for ratios."""
    better: ClassVar[Literal["higher", "lower"]]
    extra: ClassVar[Mapping[str, str]] = {}
    """Further numbers that `measure` gives: name → title. Same unit, same direction."""

    def __init__(self, config: MetricConfigT) -> None:
        self.config = config

    @abstractmethod
    def compute(self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int) -> float:
        """Compare two waveforms (S,) of equal length and rate.

        Returns NaN where the measure is not defined, such as for a recording that is too short for it.
        Raises: AudioError when the waveforms are not comparable.
        """

    def measure(
        self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int, text: str | None = None
    ) -> dict[str, Measured]:
        """Return everything that the metric tells of one utterance: "" → what it is named for, and `extra`.

        `text` is what was said, where the corpus knows. Raises: as `compute`.
        """
        return {"": measured(self.compute(reference_S, estimate_S, sample_rate_hz=sample_rate_hz))}


class ReferenceFreeMetric(Metric[MetricConfigT]):
    """Judges speech by itself, such as continuations. Its config says `needs_reference=False`."""

    @abstractmethod
    def judge(self, waveform_S: Tensor, *, sample_rate_hz: int) -> dict[str, float]:
        """Return "" → what the metric is named for, and `extra`; NaN where it is not defined."""

    def compute(self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int) -> float:
        return self.judge(estimate_S, sample_rate_hz=sample_rate_hz)[""]

    def measure(
        self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int, text: str | None = None
    ) -> dict[str, Measured]:
        judged = self.judge(estimate_S, sample_rate_hz=sample_rate_hz)
        return {name: measured(value) for name, value in judged.items()}


def measured(value: float) -> Measured:
    """Return a value as one that counts once, or as nothing when it is NaN."""
    return (0.0, 0.0) if math.isnan(value) else (value, 1.0)


def score_names(metrics: Mapping[str, Metric[Any]]) -> dict[str, tuple[str, str]]:
    """Return the name of every number in results, such as "dnsmos_signal" → (its metric, its name there)."""
    return {
        f"{name}_{part}" if part else name: (name, part)
        for name, metric in metrics.items()
        for part in ("", *metric.extra)
    }


def score_document(metric: Metric[Any], part: str, pairs: Sequence[Measured]) -> dict[str, Any]:
    """Return a score over utterances as results hold it: title, unit, direction, mean and interval."""
    sums, counts = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return {
        "title": metric.extra[part] if part else metric.title,
        "unit": metric.unit,
        "better": metric.better,
        **ratio_estimate(sums, counts).to_dict(),
    }


def check_pair(reference_S: Tensor, estimate_S: Tensor) -> None:
    """Raises: AudioError unless both are (S,) with the same S > 0."""
    if reference_S.ndim != 1 or reference_S.shape != estimate_S.shape or reference_S.numel() == 0:
        raise AudioError(
            "a metric compares two waveforms (S,) of the same length, got "
            f"{list(reference_S.shape)} and {list(estimate_S.shape)}: cut both to the shorter one"
        )
