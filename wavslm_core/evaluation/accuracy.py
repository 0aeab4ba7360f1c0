"""Accuracies over pairs, with honest intervals and tests: what was drawn at random are items, not pairs.

An item may be spoken by several voices. Its credit is the mean over its pairs, as ZeroSpeech has it, and the
bootstrap draws items with all their voices. Credits take few values, so a resample of N items is one draw
from a multinomial distribution over these values: the same as drawing N items, in no time.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
SEED = 0
TAIL = 0.025
FEWEST_ITEMS = 10
"""Resamples of fewer say too little of how far off a mean may be: such have no interval."""


@dataclass(frozen=True)
class Accuracy:
    """A mean credit with its 95% interval, in percent; NaN where there is too little to tell."""

    percent: float
    low: float
    high: float
    items: int
    pairs: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values with the keys of every number in results."""
        values = asdict(self)
        mean = values.pop("percent")
        return {
            "unit": "%",
            "better": "higher",
            "mean": mean,
            "interval": (self.high - self.low) / 2,
            **values,
            "count": self.items,
        }


def credit(positive: float, negative: float, *, ties: Literal["half", "strict"]) -> float:
    """Return what a pair counts: 1 if its positive is likelier, else 0; a score that is NaN makes a tie."""
    if positive > negative:
        return 1.0
    if positive < negative or ties == "strict":
        return 0.0
    return 0.5


def item_credits(items: Sequence[str], credits: Sequence[float]) -> dict[str, float]:
    """Return item → the mean credit of its pairs."""
    found: dict[str, list[float]] = defaultdict(list)
    for item, value in zip(items, credits, strict=True):
        found[item].append(value)
    return {item: math.fsum(values) / len(values) for item, values in found.items()}


def accuracy(items: Sequence[str], credits: Sequence[float]) -> Accuracy:
    """Return the mean over items of their mean credits."""
    return macro_accuracy([(items, credits)])


def macro_accuracy(strata: Iterable[tuple[Sequence[str], Sequence[float]]]) -> Accuracy:
    """Return the mean over strata, such as tasks, of their accuracies; items are drawn within each."""
    found = [(list(item_credits(items, credits).values()), len(credits)) for items, credits in strata]
    found = [(values, pairs) for values, pairs in found if values]
    if not found:
        return Accuracy(math.nan, math.nan, math.nan, 0, 0)
    mean = math.fsum(math.fsum(values) / len(values) for values, _ in found) / len(found)
    items = sum(len(values) for values, _ in found)
    rng = np.random.default_rng(SEED)
    if items < FEWEST_ITEMS or min(len(values) for values, _ in found) < 2:
        low = high = math.nan
    elif mean in (0.0, 1.0):
        # Resamples of what is all right, or all wrong, are alike: the exact bounds of a binomial share.
        low, high = (TAIL ** (1 / items), 1.0) if mean else (0.0, 1 - TAIL ** (1 / items))
    else:
        draws = np.mean([_resampled(np.asarray(values), rng) for values, _ in found], axis=0)
        low, high = (float(np.quantile(draws, tail)) for tail in (TAIL, 1 - TAIL))
    return Accuracy(100 * mean, 100 * low, 100 * high, items, sum(pairs for _, pairs in found))


def _resampled(values_N: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the means of resamples, (RESAMPLES,)."""
    kinds, counts = np.unique(values_N, return_counts=True)
    drawn = rng.multinomial(values_N.size, counts / values_N.size, size=RESAMPLES)
    means: NDArray[np.float64] = drawn @ kinds / values_N.size
    return means


@dataclass(frozen=True)
class PairedTest:
    """Two models on the same items."""

    better: int
    """Items on which the one beats the other, and the other way round; those on which they are even say
    nothing."""
    worse: int
    p: float
    """Two-sided and exact: how likely a difference as large is between models that are equally good."""


def mcnemar(one: Mapping[str, float], other: Mapping[str, float]) -> PairedTest:
    """Compare item credits of two models (McNemar 1947, exact): the voices of an item vote together."""
    differences = [one[item] - other[item] for item in one if item in other]
    better = sum(difference > 0 for difference in differences)
    worse = sum(difference < 0 for difference in differences)
    total = better + worse
    if better == worse:
        return PairedTest(better, worse, 1.0)
    # The tail of a binomial distribution with p = 1/2, in logarithms: 2^-6000 is no float.
    log_terms = [
        math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) - total * math.log(2)
        for k in range(min(better, worse) + 1)
    ]
    return PairedTest(better, worse, min(1.0, 2 * math.fsum(map(math.exp, log_terms))))
