"""Words that a corpus has, among those that are heard: what speech without a reference can be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from torch import Tensor

from wavslm_core.plugin import Measured, ReferenceFreeMetric, WavslmError
from wavslm_judges.config import LEARNT_FROM, VocabularyConfig
from wavslm_judges.recognisers import recogniser_for
from wavslm_judges.words import words_of


class Vocabulary(ReferenceFreeMetric[VocabularyConfig]):
    """Counts words over all that is judged. Raises: WavslmError when the recogniser is not there."""

    title: ClassVar[str] = "Words in vocabulary"
    better: ClassVar[Literal["higher", "lower"]] = "higher"
    extra: ClassVar[Mapping[str, str]] = {"words_per_second": "Words heard per second"}

    def __init__(self, config: VocabularyConfig) -> None:
        super().__init__(config)
        self._recogniser = recogniser_for(config)
        self._known: frozenset[str] = frozenset()

    def prepare(self, transcripts: Mapping[str, Sequence[str]]) -> None:
        texts = (text for split in LEARNT_FROM for text in transcripts[split])
        self._known = frozenset(word for text in texts for word in words_of(text))
        if not self._known:
            raise WavslmError(
                "the metric 'vocabulary' asks for words of the corpus, which has no transcripts. "
                "Leave 'vocabulary' out, or take a corpus with transcripts"
            )

    def versions(self) -> dict[str, str]:
        return {**self._recogniser.versions(), "vocabulary": f"{len(self._known)} words"}

    def hear(self, waveform_S: Tensor, *, sample_rate_hz: int) -> str:
        return self._recogniser.hear(waveform_S, sample_rate_hz=sample_rate_hz)

    def judge(self, waveform_S: Tensor, *, sample_rate_hz: int) -> dict[str, float]:
        found = self.measure(waveform_S, waveform_S, sample_rate_hz=sample_rate_hz)
        return {name: value / count if count else float("nan") for name, (value, count) in found.items()}

    def measure(
        self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int, text: str | None = None
    ) -> dict[str, Measured]:
        heard = words_of(self.hear(estimate_S, sample_rate_hz=sample_rate_hz))
        known = sum(word in self._known for word in heard)
        seconds = estimate_S.numel() / sample_rate_hz
        return {"": (float(known), float(len(heard))), "words_per_second": (float(len(heard)), seconds)}
