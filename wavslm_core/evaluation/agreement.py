"""Do two stages say the same of the same thing? What trained a part validated it; `evaluate` scores it too.

Both look at the validation split, at other utterances of it perhaps, so they may differ by chance. When they
differ by more, one of them computed something else than what was left: another arithmetic, other weights, a
part that is not the same in training as it is later. No such number should be believed.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from wavslm_core.parts.estimates import NORMAL_95

STANDARD_ERRORS = 4.0
"""Differences up to this many standard errors are chance: one in 16,000, were they normal."""
RELATIVE = 0.005
"""Differences up to this share of the number are padding, order of summation and the like."""


@dataclass(frozen=True)
class Disagreement:
    """A number that the stage that trained and `evaluate` found differently."""

    what: str
    """Name of the number, such as "stoi"."""
    stage: str
    """The stage that trained."""
    trained: float
    evaluated: float
    allowed: float
    """Difference that chance explains."""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "text": str(self)}

    def __str__(self) -> str:
        return (
            f"{self.what} was {self.trained:.4g} when {self.stage} validated what it left, and is "
            f"{self.evaluated:.4g} now that it is evaluated; chance explains {self.allowed:.2g}. What was "
            "left does not compute what was trained: believe neither, run `wavslm doctor` on this machine, "
            "and report it"
        )


def find_disagreements(
    stage: str, trained: Mapping[str, Any], evaluated: Mapping[str, Mapping[str, Any]]
) -> list[Disagreement]:
    """Compare what a training stage left in its results with scores (name → mean, interval, count).

    Scores of a single utterance, and names that only one of them has, cannot be compared and are left out.
    """
    valid = trained.get("valid") or {}
    found = []
    for name, score in evaluated.items():
        numbers = (valid.get(name), score.get("mean"), score.get("interval"))
        counts = (score.get("count"), trained.get("valid_utterances"))
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in (*numbers, *counts)):
            continue
        then, now, interval = map(float, numbers)  # type: ignore[arg-type]
        count, utterances = map(int, counts)  # type: ignore[arg-type]
        deviation = interval / NORMAL_95 * math.sqrt(count)
        error = deviation * math.sqrt(1 / count + 1 / utterances)
        allowed = STANDARD_ERRORS * error + RELATIVE * abs(now)
        if abs(then - now) > allowed:
            found.append(Disagreement(name, stage, then, now, allowed))
    return found
