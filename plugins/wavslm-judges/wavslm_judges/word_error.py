"""Wrong words per word: substitutions, deletions and insertions of a recogniser's hypothesis."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from wavslm_core.plugin import Measured, Metric, check_pair
from wavslm_judges.config import WordErrorConfig
from wavslm_judges.recognisers import edits, recogniser_for, words_of


class WordError(Metric[WordErrorConfig]):
    """Recognises the estimate and counts. Raises: WavslmError when the recogniser is not there."""

    title: ClassVar[str] = "Word error"
    better: ClassVar[Literal["higher", "lower"]] = "lower"

    def __init__(self, config: WordErrorConfig) -> None:
        super().__init__(config)
        self._recogniser = recogniser_for(config)

    def compute(self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int) -> float:
        wrong, words = self.measure(reference_S, estimate_S, sample_rate_hz=sample_rate_hz)[""]
        return wrong / words if words else float("nan")

    def measure(
        self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int, text: str | None = None
    ) -> dict[str, Measured]:
        check_pair(reference_S, estimate_S)
        if text is None or self.config.against == "original":
            text = self._recogniser.hear(reference_S, sample_rate_hz=sample_rate_hz)
        wanted = words_of(text)
        heard = words_of(self._recogniser.hear(estimate_S, sample_rate_hz=sample_rate_hz))
        return {"": (float(edits(wanted, heard)), float(len(wanted))) if wanted else (0.0, 0.0)}
