"""What tells right from wrong without any language: how long, how loud, how common, how alike two parts.

Pairs come in sets that make up for each other, such as a sound that is right in one pair and wrong in the
other. A set is taken only where no such clue leads by it, so that each alone scores half. Sets that would
make one lead are not kept until others have brought that back: what a clue says of a set, others like it
say, too, and a set in which it says nothing is better balanced for them than two that make up for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import SupportsFloat

import numpy as np

from wavslm_core.plugin import DataError, spectral_distance_db
from wavslm_tiny_speech.takes import Samples, Take
from wavslm_tiny_speech.unigrams import Doubles, Unigrams

MOST_LEAD = 2
"""Pairs by which a clue may be more often right than wrong, at any time."""
MOST_CANDIDATES = 60
"""For the last sets."""
MOST_REFUSED = 300
"""Sets refused for each pair that is wanted, before it is given up."""
LAST_TOGETHER = 3
"""So many last sets are chosen together: three of a dozen nearly always bring all leads back."""
LAST_SETS = 20
"""Sets that are tried among the last ones for no lead at all when all pairs are there, then as many for one
of a pair, which a tie leaves; some clues no sets of a kind bring back."""
SAME_DB = 0.01
"""Levels that differ by less are the same."""
SAME_NATS = 1e-9
"""Log probabilities that differ by less are the same."""
REMEMBERED = 8
"""Pairs whose sounds are not looked at again: more than a set has."""


def longer(take: Take) -> int:
    """Return 1 where the right recording is longer, −1 where the wrong one is, 0 for a tie."""
    return _sign(len(take.right) - len(take.wrong))


def louder(take: Take) -> int:
    """Return 1 where the right recording is louder, −1 where the wrong one is, 0 for a tie."""
    difference_db = _level_db(take.right) - _level_db(take.wrong)
    return 0 if abs(difference_db) < SAME_DB else _sign(difference_db)


def more_alike(take: Take) -> int:
    """Return 1 where the spectra before and after the split are more alike in the right recording, or −1."""
    apart = [spectral_distance_db(side, take.split) for side in (take.right, take.wrong)]
    return _sign(apart[1] - apart[0])


Clue = Callable[[Take], int]


def clues_with(unigrams: Sequence[Unigrams]) -> dict[str, Clue]:
    """Return all clues by name, those about sounds by the mean of these unigrams."""

    @lru_cache(maxsize=REMEMBERED)
    def log_probs(take: Take) -> tuple[Doubles, Doubles]:
        right_T, wrong_T = (
            np.mean([one.token_log_probs(side) for one in unigrams], axis=0)
            for side in (take.right, take.wrong)
        )
        return right_T, wrong_T

    def likelier(of_one: Callable[[Doubles], SupportsFloat]) -> Clue:
        def clue(take: Take) -> int:
            right, wrong = (float(of_one(side_T)) for side_T in log_probs(take))
            return 0 if abs(right - wrong) < SAME_NATS else _sign(right - wrong)

        return clue

    return {
        "duration": longer,
        "loudness": louder,
        "unigrams": likelier(np.mean),
        "unigrams in sum": likelier(np.sum),
        "spectra": more_alike,
    }


def balanced(
    sets: Iterable[Sequence[Take]], pairs: int, clues: Mapping[str, Clue]
) -> Iterator[tuple[int, Take, Mapping[str, int]]]:
    """Yield (set, pair, what each clue says of it) until there are enough.

    Raises: DataError when no more can be found.
    """
    lead = dict.fromkeys(clues, 0)
    candidates: list[_Weighed] = []
    found = chosen = refused = tried = 0
    for takes in sets:
        wanted = -(-(pairs - found) // len(takes))
        is_last = wanted <= LAST_TOGETHER
        candidates.append(_Weighed.of(takes, clues))
        most = min(tried // LAST_SETS, MOST_LEAD) if is_last else MOST_LEAD
        fitting = _fitting(candidates, lead, most, count=wanted if is_last else 1)
        for one in fitting:
            lead = {name: lead[name] + gain for name, gain in one.gains.items()}
            for take, told in list(zip(one.takes, one.told, strict=True))[: pairs - found]:
                yield chosen, take, told
            found += len(one.takes)
            chosen += 1
        if found >= pairs:
            return
        tried += is_last
        refused += not fitting
        if not is_last or len(candidates) > MOST_CANDIDATES:
            del candidates[0]
        if refused > MOST_REFUSED * pairs:
            raise DataError(
                f"{refused} sets of pairs were refused, since {', '.join(clues)} would have told right "
                "from wrong; use another `seed` or fewer `pairs`"
            )


def _fitting(
    candidates: Sequence[_Weighed], lead: Mapping[str, int], most: int, *, count: int
) -> Sequence[_Weighed]:
    """Return so many sets, the newest among them, with which no clue leads by more than `most`, or none."""
    *others, newest = candidates
    together = [(*several, newest) for several in combinations(others, count - 1)]
    leads = [_most_lead(several, lead) for several in together]
    least = min(leads, default=most + 1)
    return together[leads.index(least)] if least <= most else ()


def _most_lead(several: Sequence[_Weighed], lead: Mapping[str, int]) -> int:
    """Return by how much some clue leads with these sets."""
    return max(abs(lead[name] + sum(one.gains[name] for one in several)) for name in lead)


@dataclass(frozen=True, eq=False)
class _Weighed:
    """A set, and by how much each clue would gain by it."""

    takes: Sequence[Take]
    told: Sequence[Mapping[str, int]]
    """What each clue says, pair by pair."""
    gains: Mapping[str, int]

    @classmethod
    def of(cls, takes: Sequence[Take], clues: Mapping[str, Clue]) -> _Weighed:
        told = [{name: clue(take) for name, clue in clues.items()} for take in takes]
        return cls(takes, told, {name: sum(one[name] for one in told) for name in clues})


def _level_db(samples: Samples) -> float:
    return 10 * float(np.log10(np.mean(samples.astype(np.float64) ** 2) + 1e-9))


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
