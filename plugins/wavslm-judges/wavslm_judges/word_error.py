"""Wrong words per word: substitutions, deletions and insertions of a recogniser's hypothesis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from torch import Tensor

from wavslm_core.plugin import Measured, Metric, WavslmError, check_pair
from wavslm_judges.config import CORPUS, LEARNT_FROM, WordErrorConfig
from wavslm_judges.recognisers import existing, recogniser_for
from wavslm_judges.words import edits, sentences_of, words_of


class WordError(Metric[WordErrorConfig]):
    """Recognises the estimate and counts. Raises: WavslmError when the recogniser is not there."""

    title: ClassVar[str] = "Word error"
    better: ClassVar[Literal["higher", "lower"]] = "lower"

    def __init__(self, config: WordErrorConfig) -> None:
        super().__init__(config)
        given = config.language_model
        sentences = None
        if given is not None and given != CORPUS:
            text = existing(given, "language_model").read_text(encoding="utf-8")
            sentences = sentences_of(text.splitlines())
            if not sentences:
                raise WavslmError(f"language_model {given} has no words. Give sentences, one a line")
        # With the words of a corpus it is made anew in `prepare`; here it shows that it is installed.
        self._recogniser = recogniser_for(config, sentences)

    def prepare(self, transcripts: Mapping[str, Sequence[str]]) -> None:
        if self.config.language_model != CORPUS:
            return
        sentences = sentences_of(text for split in LEARNT_FROM for text in transcripts[split])
        if not sentences:
            raise WavslmError(
                "language_model is corpus, but the corpus has no transcripts to learn words from. "
                "Give a text file as `language_model`, or leave it out"
            )
        self._recogniser = recogniser_for(self.config, sentences)

    def versions(self) -> dict[str, str]:
        return self._recogniser.versions()

    def hear(self, waveform_S: Tensor, *, sample_rate_hz: int) -> str:
        return self._recogniser.hear(waveform_S, sample_rate_hz=sample_rate_hz)

    def compute(self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int) -> float:
        wrong, words = self.measure(reference_S, estimate_S, sample_rate_hz=sample_rate_hz)[""]
        return wrong / words if words else float("nan")

    def measure(
        self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int, text: str | None = None
    ) -> dict[str, Measured]:
        check_pair(reference_S, estimate_S)
        if text is None or self.config.against == "original":
            text = self.hear(reference_S, sample_rate_hz=sample_rate_hz)
        wanted = words_of(text)
        heard = words_of(self.hear(estimate_S, sample_rate_hz=sample_rate_hz))
        return {"": (float(edits(wanted, heard)), float(len(wanted))) if wanted else (0.0, 0.0)}

    def measure_original(
        self, original_S: Tensor, *, sample_rate_hz: int, text: str | None = None
    ) -> dict[str, Measured]:
        if text is None or self.config.against == "original":
            return {}
        return self.measure(original_S, original_S, sample_rate_hz=sample_rate_hz, text=text)
