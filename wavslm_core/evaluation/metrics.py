"""What a metric is: one number that says how close an estimate is to its reference."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, Literal, TypeVar

from torch import Tensor

from wavslm_core.configs import MetricConfig
from wavslm_core.errors import AudioError

MetricConfigT = TypeVar("MetricConfigT", bound=MetricConfig)


class Metric(ABC, Generic[MetricConfigT]):
    """Compares audio with a reference. Built as `Class(config)`; building it checks that it can run."""

    title: ClassVar[str]
    """What the report calls it."""
    unit: ClassVar[str] = ""
    """Unit of the number, empty for ratios."""
    better: ClassVar[Literal["higher", "lower"]]

    def __init__(self, config: MetricConfigT) -> None:
        self.config = config

    @abstractmethod
    def compute(self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int) -> float:
        """Compare two waveforms (S,) of equal length and rate.

        Returns NaN where the measure is not defined, such as for a recording that is too short for it.
        Raises: AudioError when the waveforms are not comparable.
        """


def check_pair(reference_S: Tensor, estimate_S: Tensor) -> None:
    """Raises: AudioError unless both are (S,) with the same S > 0."""
    if reference_S.ndim != 1 or reference_S.shape != estimate_S.shape or reference_S.numel() == 0:
        raise AudioError(
            "a metric compares two waveforms (S,) of the same length, got "
            f"{list(reference_S.shape)} and {list(estimate_S.shape)}: cut both to the shorter one"
        )
