"""What metrics tell of utterances, one by one and together: values, what was heard, and what failed."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import Tensor

from wavslm_core.errors import summary
from wavslm_core.parts.estimates import difference_estimate, ratio_estimate
from wavslm_core.parts.metric import Measured, Metric

logger = logging.getLogger(__name__)

MOST_NAMED = 20
"""Utterances on which a metric failed that results name, each with the reason; they count all."""


@dataclass(frozen=True)
class Measurement:
    """What metrics told of one utterance."""

    values: dict[str, Measured]
    """Every name of `score_names`; (0, 0) where a metric failed."""
    failures: dict[str, str] = field(default_factory=dict)
    """Metric → why it could not judge this utterance."""
    heard: dict[str, str] = field(default_factory=dict)
    """Metric → the words that it heard, of those that listen to words."""

    @property
    def scores(self) -> dict[str, float]:
        """The numbers that are defined: name → value."""
        return {name: value / count for name, (value, count) in self.values.items() if count}


Pair = tuple[Measurement, Measurement]
"""What metrics told of an estimate, and of the recording that it stands for."""


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

    def told(metric: Metric[Any]) -> dict[str, Measured]:
        found = metric.measure(reference_S, estimate_S, sample_rate_hz=sample_rate_hz, text=text)
        return {part: found[part] for part in ("", *metric.extra)}

    return _measured(metrics, told, estimate_S, sample_rate_hz)


def measure_pair(
    metrics: Mapping[str, Metric[Any]],
    original_S: Tensor,
    estimate_S: Tensor,
    *,
    sample_rate_hz: int,
    text: str | None = None,
) -> Pair:
    """Return what each metric tells of an estimate as `measure` does, and of the recording itself."""

    def told(metric: Metric[Any]) -> dict[str, Measured]:
        return metric.measure_original(original_S, sample_rate_hz=sample_rate_hz, text=text)

    return (
        measure(metrics, original_S, estimate_S, sample_rate_hz=sample_rate_hz, text=text),
        _measured(metrics, told, original_S, sample_rate_hz),
    )


def _measured(
    metrics: Mapping[str, Metric[Any]],
    told: Callable[[Metric[Any]], dict[str, Measured]],
    waveform_S: Tensor,
    sample_rate_hz: int,
) -> Measurement:
    values: dict[str, Measured] = dict.fromkeys(score_names(metrics), (0.0, 0.0))
    failures: dict[str, str] = {}
    heard: dict[str, str] = {}
    for name, metric in metrics.items():
        try:
            found = {_joined(name, part): _defined(pair) for part, pair in told(metric).items()}
            words = metric.hear(waveform_S, sample_rate_hz=sample_rate_hz)
        except Exception as error:
            failures[name] = summary(error)
            continue
        values |= found
        if words is not None:
            heard[name] = words
    return Measurement(values, failures, heard)


def unmeasured(metrics: Mapping[str, Metric[Any]], why: str) -> Measurement:
    """Return that of an utterance which no metric could be asked about."""
    return Measurement(dict.fromkeys(score_names(metrics), (0.0, 0.0)), dict.fromkeys(metrics, why))


def unmeasured_pair(metrics: Mapping[str, Metric[Any]], why: str) -> Pair:
    return unmeasured(metrics, why), unmeasured(metrics, why)


def score_names(metrics: Mapping[str, Metric[Any]]) -> dict[str, tuple[str, str]]:
    """Return the name of every number in results, such as "dnsmos_signal" → (its metric, its name there)."""
    return {
        _joined(name, part): (name, part) for name, metric in metrics.items() for part in ("", *metric.extra)
    }


def score_documents(
    metrics: Mapping[str, Metric[Any]],
    ids: Sequence[str],
    measurements: Sequence[Measurement],
    originals: Sequence[Measurement] = (),
    anchors: Mapping[str, Sequence[Measurement]] = MappingProxyType({}),
) -> dict[str, dict[str, Any]]:
    """Return every score over utterances as results hold it: title, unit, direction, mean and interval.

    `failed` counts the utterances that its metric failed on; `failures` names the first of them. With what
    the recordings themselves get, `original` is their score and `difference` what was lost or gained;
    `anchors` are the scores of whatever else stands beside, by name.
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
        pairs = totals(originals, name)
        if any(pairs[1]):
            documents[name]["original"] = ratio_estimate(*pairs).to_dict()
            documents[name]["difference"] = difference_estimate((sums, counts), pairs).to_dict()
        if anchors:
            documents[name]["anchors"] = {
                anchor: ratio_estimate(*totals(found, name)).to_dict() for anchor, found in anchors.items()
            }
    return documents


def heard_documents(
    ids: Sequence[str], texts: Sequence[str | None], pairs: Sequence[Pair]
) -> list[dict[str, Any]]:
    """Return what was heard in each utterance and in its original, by metric, and what was said if known.

    Utterances in which no metric listened to words are left out.
    """
    return [
        {"id": which, "said": text, "original": original.heard, "estimate": found.heard}
        for which, text, (found, original) in zip(ids, texts, pairs, strict=True)
        if found.heard or original.heard
    ]


def joined(measurements: Sequence[Measurement]) -> Measurement:
    """Return several measurements of one utterance as one: sums and what they are over are added up."""
    values = {
        name: (sum(m.values[name][0] for m in measurements), sum(m.values[name][1] for m in measurements))
        for name in measurements[0].values
    }
    failures = {metric: why for m in reversed(measurements) for metric, why in m.failures.items()}
    return Measurement(values, failures)


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
