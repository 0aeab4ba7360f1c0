"""How many sessions the machine serves in real time: steps that were measured, and how fast it is by now."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock

import numpy as np

RECENT_S = 30.0
"""Steps of that long tell how fast the machine is by now."""
LEAST_STEPS = 8
"""Fewer tell nothing: one that was interrupted may have taken long."""


@dataclass(frozen=True)
class StepTimes:
    """Computing times in seconds of a chunk, by the number of rows that do it at once."""

    hear: Mapping[int, float]
    speak: Mapping[int, float]
    mixed: float = 1.0
    """What a step costs in which some hear and some speak, as a part of the two steps by themselves."""

    def of(self, hearing: int, speaking: int) -> float:
        """Return how long a step should take in which so many rows hear, and so many speak."""
        seconds = between(self.hear, hearing) + between(self.speak, speaking)
        return self.mixed * seconds if hearing and speaking else seconds


class Pace:
    """What the machine can do. Several threads may ask."""

    def __init__(self, times: StepTimes, *, heard_chunk_s: float, chunk_s: float) -> None:
        self._times, self._heard_chunk_s, self._chunk_s = times, heard_chunk_s, chunk_s
        self._lock = Lock()
        self._recent: deque[tuple[float, float]] = deque(maxlen=500)
        """When a step ended, and how many times as long as it should have it took."""

    def of(self, times: StepTimes) -> Pace:
        """Return the pace of steps that take that long."""
        return Pace(times, heard_chunk_s=self._heard_chunk_s, chunk_s=self._chunk_s)

    def took(self, seconds: float, *, hearing: int, speaking: int, chunks: int = 1) -> None:
        """Take note of a step in which so many rows heard that many chunks, and so many said one."""
        expected = self._times.of(hearing, speaking)
        if chunks > 1 or expected <= 0:
            # Several chunks at once cost less than one by one, by how much nobody measured.
            return
        with self._lock:
            self._recent.append((time.monotonic(), seconds / expected))

    @property
    def slowdown(self) -> float:
        """How many times as long as at first steps take by now; 1 when there were hardly any."""
        since = time.monotonic() - RECENT_S
        with self._lock:
            ratios = [ratio for at, ratio in self._recent if at >= since]
        return float(np.median(ratios)) if len(ratios) >= LEAST_STEPS else 1.0

    def load(self, sessions: int) -> float:
        """Return the share of the time that so many sessions take that hear and speak all the time."""
        hear_s, speak_s = between(self._times.hear, sessions), between(self._times.speak, sessions)
        return self.slowdown * (hear_s / self._heard_chunk_s + speak_s / self._chunk_s)

    def room(self, *, most: int, share: float) -> int:
        """Return how many sessions take no more than that share of the time: at least one, at most `most`."""
        slowdown, sessions = self.slowdown, 1
        while sessions < most:
            hear_s = between(self._times.hear, sessions + 1)
            speak_s = between(self._times.speak, sessions + 1)
            if slowdown * (hear_s / self._heard_chunk_s + speak_s / self._chunk_s) > share:
                break
            sessions += 1
        return sessions


def between(times: Mapping[int, float], rows: int) -> float:
    """Return the time of a step of so many rows, on the line between those that were measured around it.

    Beyond the largest, each row costs as much more as those before it did at least on average.
    """
    if rows == 0 or not times:
        return 0.0
    sizes = sorted(times)
    largest = sizes[-1]
    if rows <= largest:
        return float(np.interp(rows, sizes, [times[size] for size in sizes]))
    first = sizes[0]
    slope = (times[largest] - times[first]) / (largest - first) if largest > first else times[largest]
    return times[largest] + max(slope, 0.0) * (rows - largest)
