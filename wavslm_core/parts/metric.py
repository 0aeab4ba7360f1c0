"""What a metric is: a number that says how close an estimate is to its reference, or how good it is alone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic, Literal, TypeVar

from torch import Tensor

from wavslm_core.errors import AudioError
from wavslm_core.parts.configs import MetricConfig

MetricConfigT = TypeVar("MetricConfigT", bound=MetricConfig)


Better = Literal["higher", "lower"]

Measured = tuple[float, float]
"""A sum and what it is over: (value, 1), (wrong words, words); (0, 0) where the measure is not defined.

Over many utterances, the score is the ratio of the totals.
"""


class Metric(ABC, Generic[MetricConfigT]):
    """Compares audio with a reference. Built as `Class(config)`; building it checks that it can run."""

    title: ClassVar[str]
    """What the report calls it."""
    unit: ClassVar[str] = ""
    """Unit of the number, empty for ratios."""
    better: ClassVar[Better]
    extra: ClassVar[Mapping[str, str]] = {}
    """Further numbers that `measure` gives: name → title. Same unit, same direction."""

    def __init__(self, config: MetricConfigT) -> None:
        self.config = config

    def prepare(self, transcripts: Mapping[str, Sequence[str]]) -> None:
        """Learn from a corpus: the transcripts of every split that the config's `needed_splits` names.

        Called once, before anything is judged, where there is such a split to ask for. Raises: WavslmError
        when nothing can be learnt from them.
        """

    @abstractmethod
    def compute(self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int) -> float:
        """Compare two waveforms (S,) of equal rate, and of equal length unless its config `takes_prompt`.

        Returns NaN where the measure is not defined, such as for a recording that is too short for it.
        Raises: AudioError when the waveforms are not comparable.
        """

    def measure(
        self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int, text: str | None = None
    ) -> dict[str, Measured]:
        """Return everything that the metric tells of one utterance: "" → what it is named for, and `extra`.

        `text` is what was said, where the corpus knows. Raises: as `compute`.
        """
        return {"": measured(self.compute(reference_S, estimate_S, sample_rate_hz=sample_rate_hz))}

    def measure_original(
        self, original_S: Tensor, *, sample_rate_hz: int, text: str | None = None
    ) -> dict[str, Measured]:
        """Return what the recording itself gets, which estimates are read beside; as `measure`.

        Empty where it is known beforehand: a recording is at no distance from itself.
        """
        return {}

    def versions(self) -> dict[str, str]:
        """Return what its numbers depend on: library → version, weights → digest."""
        return {}

    def hear(self, waveform_S: Tensor, *, sample_rate_hz: int) -> str | None:
        """Return the words that the metric hears, which results keep; None: it does not listen to words."""
        return None


class ReferenceFreeMetric(Metric[MetricConfigT]):
    """Judges speech by itself, such as continuations. Its config says `needs_reference=False`."""

    @abstractmethod
    def judge(self, waveform_S: Tensor, *, sample_rate_hz: int) -> dict[str, float]:
        """Return "" → what the metric is named for, and `extra`; NaN where it is not defined."""

    def compute(self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int) -> float:
        return self.judge(estimate_S, sample_rate_hz=sample_rate_hz)[""]

    def measure(
        self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int, text: str | None = None
    ) -> dict[str, Measured]:
        judged = self.judge(estimate_S, sample_rate_hz=sample_rate_hz)
        return {name: measured(value) for name, value in judged.items()}

    def measure_original(
        self, original_S: Tensor, *, sample_rate_hz: int, text: str | None = None
    ) -> dict[str, Measured]:
        return self.measure(original_S, original_S, sample_rate_hz=sample_rate_hz, text=text)


def measured(value: float) -> Measured:
    """Return a value as one that counts once, or as nothing when it is NaN. Raises: TypeError for others."""
    try:
        return (0.0, 0.0) if math.isnan(value) else (value, 1.0)
    except (TypeError, ValueError, RuntimeError):
        shape = f" of shape {list(value.shape)}" if isinstance(value, Tensor) else ""
        raise TypeError(
            f"gave a {type(value).__name__}{shape}; `compute`, or `judge` for each name, returns a float"
        ) from None


def check_pair(reference_S: Tensor, estimate_S: Tensor) -> None:
    """Raises: AudioError unless both are (S,) with the same S > 0."""
    if reference_S.ndim != 1 or reference_S.shape != estimate_S.shape or reference_S.numel() == 0:
        raise AudioError(
            "a metric compares two waveforms (S,) of the same length, got "
            f"{list(reference_S.shape)} and {list(estimate_S.shape)}: cut both to the shorter one"
        )
