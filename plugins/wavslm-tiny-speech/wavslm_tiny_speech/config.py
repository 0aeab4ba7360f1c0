"""Options of the corpus `tiny_speech` and of the suites that are made like it; free of torch."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from pydantic import Field

from wavslm_core.plugin import CorpusConfig, SuiteConfig

SalmonTask = Literal["speaker", "gender", "rate", "pitch_range", "background", "room"]
SALMON_TASKS: tuple[SalmonTask, ...] = get_args(SalmonTask)


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

    def minutes_of(self, split: str) -> float:
        return self.minutes if split == "train" else self.valid_minutes

    def expected_seconds(self, split: str) -> float:
        """Return about how long a split will be, for plans."""
        return 60 * self.minutes_of(split)


class TinySuiteConfig(SuiteConfig):
    """What the suites have in common: they are spoken on the spot, the first time, and need no data."""

    licence: ClassVar[str] = "nothing is copied: it is made on the spot by espeak-ng, the first time"

    pairs: int = Field(default=200, ge=2, le=2000, multiple_of=2)
    """Pairs of each type or task, an even number."""
    seed: int = Field(default=0, ge=0)
    """Another seed makes other pairs."""
    sample_rate_hz: int = Field(default=16000, ge=8000, le=48000)
    """Sampling rate of the recordings; the synthesiser itself works at 22050 Hz."""


class TinySwuggyConfig(TinySuiteConfig):
    """Is a sentence that ends with a word of `tiny_speech` likelier than with a non-word one sound off?"""

    size: ClassVar[str] = "2 types × 200 pairs = 800 files, or what `pairs` says"

    name: Literal["tiny_swuggy"] = "tiny_swuggy"


class TinySblimpConfig(TinySuiteConfig):
    """Is a sentence in the words of `tiny_speech` likelier than one with an error of agreement or order?"""

    size: ClassVar[str] = "6 subtypes × 100 pairs = 1,200 files, or what `pairs` says"

    name: Literal["tiny_sblimp"] = "tiny_sblimp"
    pairs: int = Field(default=100, ge=2, le=2000, multiple_of=2)
    """Pairs of each subtype, an even number."""


class TinySalmonConfig(TinySuiteConfig):
    """Does a story of `tiny_speech` go on in the same voice, pace, melody, background and room?"""

    size: ClassVar[str] = "6 tasks × 200 pairs = 2,400 files, or what `pairs` says"

    name: Literal["tiny_salmon"] = "tiny_salmon"


class TinyStoryclozeConfig(TinySuiteConfig):
    """Is the ending of a story of `tiny_speech` likelier than that of another one?"""

    size: ClassVar[str] = "2 types × 200 pairs = 800 files, or what `pairs` says"

    name: Literal["tiny_storycloze"] = "tiny_storycloze"
