"""What a metric is: a number that says how close an estimate is to its reference, or how good it is alone."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, TypeVar

from torch import Tensor

from wavslm_core.errors import AudioError, summary
from wavslm_core.parts.configs import MetricConfig
from wavslm_core.parts.estimates import ratio_estimate

logger = logging.getLogger(__name__)

MOST_NAMED = 20
"""Utterances on which a metric failed that results name, each with the reason; they count all."""

MetricConfigT = TypeVar("MetricConfigT", bound=MetricConfig)


Better = Literal["higher", "lower"]

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
    better: ClassVar[Better]
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


@dataclass(frozen=True)
class Measurement:
    """What metrics told of one utterance."""

    values: dict[str, Measured]
    """Every name of `score_names`; (0, 0) where a metric failed."""
    failures: dict[str, str] = field(default_factory=dict)
    """Metric → why it could not judge this utterance."""


def measure(
    metrics: Mapping[str, Metric[Any]],
    reference_S: Tensor,
    estimate_S: Tensor,
    *,
    sample_rate_hz: int,
    text: str | None = None,
) -> Measurement:
    """Return what each metric tells of one utterance; whatever one raises is kept as its failure here.

    Where there is no reference, the estimate stands for it: metrics that need none do not look at it.
    """
    values: dict[str, Measured] = {}
    failures: dict[str, str] = {}
    for name, metric in metrics.items():
        try:
            found = metric.measure(reference_S, estimate_S, sample_rate_hz=sample_rate_hz, text=text)
            told = {part: _defined(found[part]) for part in ("", *metric.extra)}
        except Exception as error:
            told = dict.fromkeys(("", *metric.extra), (0.0, 0.0))
            failures[name] = summary(error)
        values |= {_joined(name, part): pair for part, pair in told.items()}
    return Measurement(values, failures)


def unmeasured(metrics: Mapping[str, Metric[Any]], why: str) -> Measurement:
    """Return that of an utterance which no metric could be asked about."""
    return Measurement(dict.fromkeys(score_names(metrics), (0.0, 0.0)), dict.fromkeys(metrics, why))


def score_names(metrics: Mapping[str, Metric[Any]]) -> dict[str, tuple[str, str]]:
    """Return the name of every number in results, such as "dnsmos_signal" → (its metric, its name there)."""
    return {
        _joined(name, part): (name, part) for name, metric in metrics.items() for part in ("", *metric.extra)
    }


def score_documents(
    metrics: Mapping[str, Metric[Any]], ids: Sequence[str], measurements: Sequence[Measurement]
) -> dict[str, dict[str, Any]]:
    """Return every score over utterances as results hold it: title, unit, direction, mean and interval.

    `failed` counts the utterances that its metric failed on; `failures` names the first of them.
    """
    documents = {}
    for name, (metric, part) in score_names(metrics).items():
        sums, counts = totals(measurements, name)
        failures = _failures(metric, ids, measurements)
        documents[name] = {
            "title": metrics[metric].extra[part] if part else metrics[metric].title,
            "unit": metrics[metric].unit,
            "better": metrics[metric].better,
            **ratio_estimate(sums, counts).to_dict(),
            "failed": len(failures),
            "failures": [{"id": which, "reason": why} for which, why in failures[:MOST_NAMED]],
        }
    return documents


def totals(measurements: Sequence[Measurement], name: str) -> tuple[list[float], list[float]]:
    """Return the sums and the counts that a number has, one for each utterance."""
    pairs = [found.values[name] for found in measurements]
    return [value for value, _ in pairs], [count for _, count in pairs]


def warn_of_failures(metrics: Iterable[str], ids: Sequence[str], measurements: Sequence[Measurement]) -> None:
    """Say in the log, in a line for each metric, how many utterances it failed on and which was the first."""
    for metric in metrics:
        failures = _failures(metric, ids, measurements)
        if failures:
            count = f"{len(failures)} of {len(measurements)}"
            which, why = failures[0]
            logger.warning(
                "metric '%s' failed on %s utterances and leaves them out; first: %s: %s",
                metric,
                count,
                which,
                why,
            )


def _failures(metric: str, ids: Sequence[str], measurements: Sequence[Measurement]) -> list[tuple[str, str]]:
    return [
        (name, found.failures[metric])
        for name, found in zip(ids, measurements, strict=True)
        if metric in found.failures
    ]


def _joined(metric: str, part: str) -> str:
    return f"{metric}_{part}" if part else metric


def _defined(pair: Measured) -> Measured:
    """Return a pair in which nothing is NaN, so that one utterance cannot take the others along."""
    value, count = pair
    return (0.0, 0.0) if math.isnan(value) or math.isnan(count) else (float(value), float(count))


def check_pair(reference_S: Tensor, estimate_S: Tensor) -> None:
    """Raises: AudioError unless both are (S,) with the same S > 0."""
    if reference_S.ndim != 1 or reference_S.shape != estimate_S.shape or reference_S.numel() == 0:
        raise AudioError(
            "a metric compares two waveforms (S,) of the same length, got "
            f"{list(reference_S.shape)} and {list(estimate_S.shape)}: cut both to the shorter one"
        )
