"""When a trial is so far behind others that it is not worth its remaining steps.

Trials meet at the steps of their validations, as in asynchronous successive halving (Li et al. 2020): each is
compared with all that have come as far, whether they run, are finished or were stopped there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from wavslm_core.recipe.sweep_prune import Prune
from wavslm_core.sweep.metric import Curve, best_until


def is_behind(
    ours: Curve, others: Sequence[Curve], *, step: int, steps: int, lower: bool, rule: Prune
) -> bool:
    """Tell whether a trial whose validations are `ours`, the last one at `step` of `steps`, is to be stopped.

    A trial without a finite loss so far is behind any that has one. `lower`: lower values are better.
    """
    if step < rule.first_step(steps) or step >= steps:
        return False
    mine = best_until(ours, step, lower=lower)
    there = [best_until(other, step, lower=lower) for other in others if other and other[-1][0] >= step]
    if len(there) + 1 < rule.min_trials:
        return False
    better = sum(_is_better(value, mine, lower=lower) for value in there)
    return better >= max(1, math.ceil(rule.keep * (len(there) + 1)))


def _is_better(value: float | None, than: float | None, *, lower: bool) -> bool:
    if value is None or than is None:
        return value is not None
    return value < than if lower else value > than
