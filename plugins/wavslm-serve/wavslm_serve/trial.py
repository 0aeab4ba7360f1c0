"""What the machine can do, found out by doing it: steps of sessions, with several threads or one."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from statistics import median

import torch

from wavslm_core.plugin import SpeechLM
from wavslm_serve.pace import Pace, StepTimes

logger = logging.getLogger(__name__)

TRIED_CHUNKS = 6
"""Chunks that are heard and said at least."""
GAIN = 0.8
"""More threads than one have to take less than this part of its time: they take it from others."""


class Trial:
    """Rows that hear noise and speak."""

    def __init__(self, model: SpeechLM, rows: int) -> None:
        codec = model.codec
        chunk = codec.facts.chunk_samples_in
        self._session = model.session()
        self._rows = [self._session.join(seed=seed) for seed in range(rows)]
        self._noise_BS = 0.1 * torch.randn(rows, chunk, generator=torch.Generator().manual_seed(0))
        self._count = max(TRIED_CHUNKS, math.ceil(codec.sample_rate_in / chunk))
        for row in self._rows:
            # As people come: each is at another place of its stream.
            self._session.hear(self._noise_BS[row:], self._rows[row:])

    def hear(self) -> float:
        """Return how many seconds a chunk takes that all hear."""
        return self._time(lambda: self._session.hear(self._noise_BS), self._count)

    def speak(self) -> float:
        """Return how many seconds a chunk takes that all say."""
        return self._time(self._session.speak, TRIED_CHUNKS)

    def both(self) -> float:
        """Return how many seconds a step takes in which the first half hears and the others speak."""
        half = len(self._rows) // 2
        heard = dict(zip(self._rows[:half], self._noise_BS, strict=False))
        return self._time(lambda: self._session.advance(heard, speaking=self._rows[half:]), TRIED_CHUNKS)

    def _time(self, step: Callable[[], object], count: int) -> float:
        found = []
        # The first of a kind makes what the others find.
        for _ in range(count + 1):
            began = time.monotonic()
            step()
            found.append(time.monotonic() - began)
        return median(found[1:])


def step_times(model: SpeechLM, pace: Pace, *, most: int, share: float) -> StepTimes:
    """Return how long chunks take, alone and several at once.

    Up to `most`, or until so many take that share of the time; `pace` knows how long chunks last.
    """
    hear: dict[int, float] = {}
    speak: dict[int, float] = {}
    mixed, rows = 1.0, 1
    while True:
        trial = Trial(model, rows)
        hear[rows], speak[rows] = trial.hear(), trial.speak()
        if rows == 2:
            mixed = trial.both() / (hear[1] + speak[1])
        times = StepTimes(hear, speak, mixed)
        if rows == most or pace.of(times).load(rows) > share:
            return times
        rows = min(2 * rows, most)


def fastest_threads(model: SpeechLM) -> int:
    """Return how many threads of torch steps are fastest with: one, or as many as it has; it has them then.

    Small models are slower with several: an operator is over before the others are awake.
    """
    several = torch.get_num_threads()
    if several > 1:
        took = {}
        for threads in (several, 1):
            torch.set_num_threads(threads)
            trial = Trial(model, 1)
            took[threads] = trial.hear() + trial.speak()
        if took[several] < GAIN * took[1]:
            torch.set_num_threads(several)
        logger.info("a chunk takes %s s by number of threads", took)
    return torch.get_num_threads()
