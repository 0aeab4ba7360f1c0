"""Means over a handful of repetitions, such as seeds, with Student's t interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from wavslm_core.parts.estimates import Estimate

_T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""97.5% quantiles of Student's t with 1 to 30 degrees of freedom."""


def repeated(values: Sequence[float]) -> Estimate:
    """Return the mean of repetitions and half its 95% interval; NaN where fewer than two are known."""
    known = [value for value in values if math.isfinite(value)]
    count = len(known)
    if count == 0:
        return Estimate(math.nan, math.nan, 0)
    mean = math.fsum(known) / count
    if count == 1:
        return Estimate(mean, math.nan, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (count - 1))
    return Estimate(mean, t_quantile(count - 1) * deviation / math.sqrt(count), count)


def paired_difference(values: Mapping[int, float], reference: Mapping[int, float]) -> Estimate:
    """Return by how much values exceed the reference, seed by seed: what both owe to a seed cancels out."""
    return repeated([values[seed] - reference[seed] for seed in values if seed in reference])


def t_quantile(degrees: int) -> float:
    """Return the 97.5% quantile of Student's t, to 0.001."""
    if degrees <= len(_T_975):
        return _T_975[degrees - 1]
    # The first terms of the expansion of t in powers of 1/degrees around the normal quantile.
    normal = 1.959964
    first = (normal**3 + normal) / 4
    second = (5 * normal**5 + 16 * normal**3 + 3 * normal) / 96
    return normal + first / degrees + second / degrees**2
