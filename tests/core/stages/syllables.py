"""A metric that listens: a word for every stretch of sound, known ones if the corpus has any text at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from torch import Tensor

from wavslm_core.parts.configs import MetricConfig
from wavslm_core.parts.metric import ReferenceFreeMetric


class SyllablesConfig(MetricConfig):
    """Stretches of sound per second."""

    name: Literal["syllables"] = "syllables"
    needs_reference: ClassVar[bool] = False

    def needed_splits(self) -> tuple[str, ...]:
        return ("train",)


class Syllables(ReferenceFreeMetric[SyllablesConfig]):
    """Judges nothing before it was prepared."""

    title: ClassVar[str] = "Syllables"
    better: ClassVar[Literal["higher", "lower"]] = "higher"

    transcripts: Mapping[str, Sequence[str]] = {}

    def prepare(self, transcripts: Mapping[str, Sequence[str]]) -> None:
        self.transcripts = transcripts

    def hear(self, waveform_S: Tensor, *, sample_rate_hz: int) -> str:
        loud_N = waveform_S.abs().unfold(0, 400, 400).amax(-1) > 0.02
        return " ".join(["<la>"] * int((loud_N[1:] & ~loud_N[:-1]).sum()))

    def judge(self, waveform_S: Tensor, *, sample_rate_hz: int) -> dict[str, float]:
        assert set(self.transcripts) == {"train"}
        seconds = len(waveform_S) / sample_rate_hz
        return {"": len(self.hear(waveform_S, sample_rate_hz=sample_rate_hz).split()) / seconds}
