"""What tells right from wrong without any language: how long, how loud, how common, how alike two parts.

Pairs come in sets that make up for each other, such as a sound that is right in one pair and wrong in the
other. A set is taken only where no such clue has gained on the others by it, so that each alone scores half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import SupportsFloat

import numpy as np

from wavslm_core.plugin import DataError
from wavslm_tiny_speech.takes import Samples, Take
from wavslm_tiny_speech.unigrams import Doubles, Unigrams

MOST_LEAD = 2
"""Pairs by which a clue may be more often right than wrong, at any time."""
MOST_REFUSED = 300
"""Sets refused for each pair that is wanted, before it is given up."""
LAST_LEAD = 1
"""The same when all pairs are there, which is none but for ties, since pairs are even in number."""
LAST_SETS = 100
"""Sets that are tried as the last one with so little lead; some clues no set of a kind brings back."""
SAME_DB = 0.01
"""Levels that differ by less are the same."""
SAME_NATS = 1e-9
"""Log probabilities that differ by less are the same."""
BANDS = 32
FRAME = 512
"""Samples of a spectrum; a frame begins at every half of it."""


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


def clues_with(unigrams: Unigrams) -> dict[str, Clue]:
    """Return all clues by name, those about sounds by these unigrams."""

    def likelier(of_one: Callable[[Doubles], SupportsFloat]) -> Clue:
        def clue(take: Take) -> int:
            right, wrong = (
                float(of_one(unigrams.token_log_probs(side))) for side in (take.right, take.wrong)
            )
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
) -> Iterator[tuple[int, Take]]:
    """Yield (set, pair) until there are enough. Raises: DataError when no more can be found."""
    lead = dict.fromkeys(clues, 0)
    found = chosen = refused = tried = 0
    for takes in sets:
        gains = {name: sum(map(clue, takes)) for name, clue in clues.items()}
        most = MOST_LEAD
        if found + len(takes) >= pairs and tried < LAST_SETS:
            most = LAST_LEAD
            tried += 1
        if any(abs(lead[name] + gain) > most for name, gain in gains.items()):
            refused += 1
            if refused > MOST_REFUSED * pairs:
                raise DataError(
                    f"{refused} sets of pairs were refused, since {', '.join(clues)} would have told right "
                    "from wrong; use another `seed` or fewer `pairs`"
                )
            continue
        lead = {name: lead[name] + gain for name, gain in gains.items()}
        for take in takes[: pairs - found]:
            yield chosen, take
        found += len(takes)
        chosen += 1
        if found >= pairs:
            return


def spectral_distance_db(samples: Samples, split: int) -> float:
    """Return how far the mean spectra before and after a place are apart, whatever their levels (RMS)."""
    before, after = (band_levels_db(part) for part in (samples[:split], samples[split:]))
    difference = before - after
    return float(np.sqrt(np.mean((difference - difference.mean()) ** 2)))


def band_levels_db(samples: Samples) -> Doubles:
    """Return the mean power in bands of equal width, (bands,)."""
    padded = np.pad(samples.astype(np.float64) / 32768, (0, max(0, FRAME - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[:: FRAME // 2]
    power = (np.abs(np.fft.rfft(frames * np.hanning(FRAME))) ** 2).mean(axis=0)
    bands = power[1:].reshape(BANDS, -1).mean(axis=1)
    decibels: Doubles = 10 * np.log10(bands + 1e-9)
    return decibels


def _level_db(samples: Samples) -> float:
    return 10 * float(np.log10(np.mean(samples.astype(np.float64) ** 2) + 1e-9))


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
