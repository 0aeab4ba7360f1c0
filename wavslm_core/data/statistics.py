"""What a split of a corpus holds, in numbers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from wavslm_core.data.corpora import Corpus, Rejected, Utterance, durations_s
from wavslm_core.data.utterance_table import UtteranceTable

Key = TypeVar("Key", int, str)
QUANTILES = {
    "shortest": 0.0,
    "5 %": 0.05,
    "25 %": 0.25,
    "median": 0.5,
    "75 %": 0.75,
    "95 %": 0.95,
    "longest": 1.0,
}
BINS = 20


@dataclass(frozen=True)
class SplitStatistics:
    """Numbers of one split."""

    utterances: int
    hours: float
    quantiles_s: dict[str, float]
    """Name → duration of an utterance; empty without utterances."""
    hours_by_rate_hz: dict[int, float]
    hours_by_channels: dict[int, float]
    """Empty where the corpus does not know."""
    hours_by_speaker: dict[str, float]
    """Empty where the corpus does not know."""
    edges_s: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    """Utterances between neighbouring edges; the last bin holds what is longer, too."""
    rejected: Sequence[Rejected]


def split_statistics(corpus: Corpus, split: str) -> SplitStatistics:
    """Go through a split. Raises: DataError when the corpus does not have it."""
    utterances = corpus.utterances(split)
    seconds_N = durations_s(utterances)
    rates, channels, speakers = _columns(utterances, seconds_N)
    quantiles = np.quantile(seconds_N, list(QUANTILES.values())).tolist() if len(seconds_N) else []
    edges = _edges(seconds_N)
    counts, _ = np.histogram(np.minimum(seconds_N, edges[-1]), edges)
    return SplitStatistics(
        utterances=len(utterances),
        hours=float(seconds_N.sum()) / 3600,
        quantiles_s=dict(zip(QUANTILES, quantiles, strict=False)),
        hours_by_rate_hz=_hours(rates),
        hours_by_channels=_hours(channels),
        hours_by_speaker=_hours(speakers),
        edges_s=edges,
        counts=counts,
        rejected=corpus.rejected(split),
    )


def _columns(
    utterances: Sequence[Utterance], seconds_N: npt.NDArray[np.float64]
) -> tuple[Counter[int], Counter[int], Counter[str]]:
    """Return seconds by sampling rate, by channels, and by speaker."""
    if isinstance(utterances, UtteranceTable):
        return utterances.seconds_by_rate(), utterances.seconds_by_channels(), utterances.seconds_by_speaker()
    rates: Counter[int] = Counter()
    speakers: Counter[str] = Counter()
    for utterance, seconds in zip(utterances, seconds_N.tolist(), strict=True):
        rates[utterance.sample_rate_hz] += seconds
        if utterance.speaker is not None:
            speakers[utterance.speaker] += seconds
    return rates, Counter(), speakers


def _hours(seconds: Counter[Key]) -> dict[Key, float]:
    """Return hours instead of seconds, the most first."""
    return {key: value / 3600 for key, value in seconds.most_common()}


def _edges(seconds_N: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return round edges from 0 to what 99.5 % of the utterances stay below."""
    top = float(np.quantile(seconds_N, 0.995)) if len(seconds_N) else 1.0
    width = max(top, 1e-3) / BINS
    scale = 10.0 ** np.floor(np.log10(width))
    step = next(round_ * scale for round_ in (1, 2, 2.5, 5, 10) if round_ * scale >= width * (1 - 1e-9))
    return np.arange(BINS + 1, dtype=np.float64)[: int(np.ceil(top / step)) + 1] * step
