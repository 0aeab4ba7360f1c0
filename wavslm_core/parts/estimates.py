"""Means with an honest width: 95% intervals over utterances, which are what was drawn at random."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

NORMAL_95 = 1.96


@dataclass(frozen=True)
class Estimate:
    """A mean and half the width of its 95% interval; NaN where there is too little to tell."""

    mean: float
    interval: float
    count: int
    """Utterances that went into it."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def ratio_estimate(sums: ArrayLike, counts: ArrayLike) -> Estimate:
    """Return Σ sums / Σ counts for one pair per utterance, such as bits and tokens.

    The interval is that of the linearised ratio: tokens of one utterance are not independent of each other.
    """
    sums_N, counts_N = _arrays(sums, counts)
    return _estimate(*_linearised(sums_N[counts_N > 0], counts_N[counts_N > 0]))


def difference_estimate(pairs: tuple[ArrayLike, ArrayLike], others: tuple[ArrayLike, ArrayLike]) -> Estimate:
    """Return Σ sums / Σ counts less that of `others`, over the utterances for which both are defined.

    Utterance by utterance, so that one which is hard for both does not widen the interval.
    """
    (sums_N, counts_N), (other_sums_N, other_counts_N) = _arrays(*pairs), _arrays(*others)
    both_N = (counts_N > 0) & (other_counts_N > 0)
    mean, residuals_N = _linearised(sums_N[both_N], counts_N[both_N])
    other_mean, other_residuals_N = _linearised(other_sums_N[both_N], other_counts_N[both_N])
    return _estimate(mean - other_mean, residuals_N - other_residuals_N)


def _arrays(sums: ArrayLike, counts: ArrayLike) -> tuple[Floats, Floats]:
    return np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)


def _linearised(sums_N: Floats, counts_N: Floats) -> tuple[float, Floats]:
    """Return the ratio of the totals, and by how much each utterance pulls it."""
    if counts_N.size == 0:
        return math.nan, sums_N
    mean = float(sums_N.sum() / counts_N.sum())
    return mean, (sums_N - mean * counts_N) / counts_N.mean()


def _estimate(mean: float, residuals_N: Floats) -> Estimate:
    count = residuals_N.size
    if count < 2:
        return Estimate(mean, math.nan, count)
    deviation = float(np.sqrt(np.square(residuals_N).sum() / (count - 1)))
    return Estimate(mean, NORMAL_95 * deviation / math.sqrt(count), count)


def by_speaker(speakers: Sequence[str | None], sums: ArrayLike, counts: ArrayLike) -> dict[str, Estimate]:
    """Return one estimate per speaker; nothing when fewer than two speakers are known."""
    sums_N, counts_N = np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    names = sorted({speaker for speaker in speakers if speaker is not None})
    if len(names) < 2:
        return {}
    found = {}
    for name in names:
        chosen_N = np.array([speaker == name for speaker in speakers])
        found[name] = ratio_estimate(sums_N[chosen_N], counts_N[chosen_N])
    return found


def json_value(value: Any) -> Any:
    """Return the value with everything that is not finite replaced by None: JSON has no word for it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [json_value(item) for item in value]
    return value
