"""How fast the model is, in numbers that `/metrics` shows to Prometheus."""

from __future__ import annotations

from collections import Counter, deque
from threading import Lock

import numpy as np

RECENT = 500
"""Of so many last values are quantiles."""
_SUMMARIES = {
    "hear_step_seconds": "Computing time of a chunk that is heard, with all that shares its step.",
    "speak_step_seconds": "Computing time of a chunk that is said, with all that shares its step.",
    "step_sessions": "Sessions that share a step.",
    "first_audio_seconds": "From the wish that the model speaks to its first audio.",
}
_COUNTERS = {
    "underruns_total": "Chunks that came later than what was said before them lasts.",
    "sessions_total": "Sessions that were started.",
    "refused_total": "Sessions that were refused since there was no room.",
    "failed_total": "Sessions that ended with an error.",
}
_GAUGES = {
    "sessions": "Sessions that are open.",
    "max_sessions": "Sessions that this machine serves in real time, or the limit if that is less.",
}


class Metrics:
    """Numbers that one thread or several count, and others read."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[str] = Counter()
        self._sums = dict.fromkeys(_SUMMARIES, 0.0)
        self._recent: dict[str, deque[float]] = {name: deque(maxlen=RECENT) for name in _SUMMARIES}

    def count(self, name: str) -> None:
        """Count one more of the counter `name`."""
        with self._lock:
            self._counts[name] += 1

    def observe(self, name: str, value: float) -> None:
        """Add a value to the summary `name`."""
        with self._lock:
            self._counts[name] += 1
            self._sums[name] += value
            self._recent[name].append(value)

    def quantiles(self, name: str) -> dict[float, float]:
        """Return median and 99th percentile of recent values, empty when there is none."""
        with self._lock:
            recent = [*self._recent[name]]
        return {share: float(np.quantile(recent, share)) for share in (0.5, 0.99)} if recent else {}

    def counted(self, name: str) -> int:
        """Return a counter, or how many values a summary holds."""
        with self._lock:
            return self._counts[name]

    def text(self, **gauges: int) -> str:
        """Return all in the text format of Prometheus, with these gauges."""
        lines: list[str] = []
        for name, value in gauges.items():
            lines += [*_described(name, "gauge", _GAUGES[name]), f"wavslm_{name} {value}"]
        for name, about in _COUNTERS.items():
            lines += [*_described(name, "counter", about), f"wavslm_{name} {self.counted(name)}"]
        for name, about in _SUMMARIES.items():
            lines += _described(name, "summary", about)
            lines += [
                f'wavslm_{name}{{quantile="{share}"}} {value:.6f}'
                for share, value in self.quantiles(name).items()
            ]
            with self._lock:
                lines += [f"wavslm_{name}_sum {self._sums[name]:.6f}"]
                lines += [f"wavslm_{name}_count {self._counts[name]}"]
        return "\n".join([*lines, ""])


def _described(name: str, kind: str, about: str) -> list[str]:
    return [f"# HELP wavslm_{name} {about}", f"# TYPE wavslm_{name} {kind}"]
