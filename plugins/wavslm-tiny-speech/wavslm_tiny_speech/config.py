"""Config of the corpus `tiny_speech`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from wavslm_core.plugin import CorpusConfig


class TinySpeechConfig(CorpusConfig):
    """Little stories told by synthetic voices, made on the spot: any amount, the same for the same seed."""

    corpus: Literal["tiny_speech"] = "tiny_speech"
    minutes: float = Field(default=30.0, gt=0)
    """Speech in the training split; more minutes continue where fewer end."""
    valid_minutes: float = Field(default=3.0, gt=0)
    """Speech in the validation split, by voices and about combinations that training never has."""
    voices: int = Field(default=48, gt=0, le=1000)
    """Training voices."""
    valid_voices: int = Field(default=8, gt=0, le=1000)
    """Validation voices."""
    sample_rate_hz: int = Field(default=16000, ge=8000, le=48000)
    """Sampling rate of what is kept; the synthesiser itself works at 22050 Hz."""
    seed: int = Field(default=0, ge=0)
    """Another seed tells other stories."""

    def minutes_of(self, split: Literal["train", "valid"]) -> float:
        return self.minutes if split == "train" else self.valid_minutes

    def expected_seconds(self, split: str) -> float:
        """Return about how long a split will be, for plans."""
        return 60 * (self.minutes if split == "train" else self.valid_minutes)
