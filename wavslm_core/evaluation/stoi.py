"""Short-time objective intelligibility through pystoi."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any, ClassVar, Literal

from torch import Tensor

from wavslm_core.errors import WavslmError
from wavslm_core.evaluation.config import StoiConfig
from wavslm_core.parts.metric import Metric, check_pair

_RATE_HZ = 10_000
_LONGEST_TOO_SHORT = 256 + 30 * 128
"""Samples at pystoi's rate up to which it has less than the 30 frames that it judges at once."""


class Stoi(Metric[StoiConfig]):
    """STOI of the estimate; NaN for recordings with less than about 0.4 s of speech.

    Raises: WavslmError when pystoi is not installed.
    """

    title: ClassVar[str] = "STOI"
    better: ClassVar[Literal["higher", "lower"]] = "higher"

    def __init__(self, config: StoiConfig) -> None:
        super().__init__(config)
        try:
            self._pystoi: Any = import_module("pystoi")
        except ImportError:
            raise WavslmError(
                "the metric 'stoi' needs pystoi, which is not installed. "
                "Install it with: pip install 'wavslm-core[metrics]', or leave 'stoi' out of `metrics`"
            ) from None

    def compute(self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int) -> float:
        check_pair(reference_S, estimate_S)
        reference, estimate = (x.detach().double().cpu().numpy() for x in (reference_S, estimate_S))
        if reference.size * _RATE_HZ <= _LONGEST_TOO_SHORT * sample_rate_hz:
            # Below a single frame, pystoi raises.
            return float("nan")
        if not (reference.any() and estimate.any()):
            return 0.0 if reference.any() else float("nan")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            value = float(
                self._pystoi.stoi(reference, estimate, sample_rate_hz, extended=self.config.extended)
            )
        # pystoi answers 1e-5 with a warning when too little speech is left; that is no measurement.
        too_short = any(issubclass(entry.category, RuntimeWarning) for entry in caught)
        return float("nan") if too_short else value
