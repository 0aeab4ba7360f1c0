"""Corpora: named splits of utterances with durations, and their waveforms on demand."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from wavslm_core.parts.augment_config import AugmentConfig, augment_of
from wavslm_core.parts.configs import CorpusConfig, DataConfig, Options

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from wavslm_core.parts.registry import Registry


MOST_LISTED = 5


@dataclass(frozen=True)
class Utterance:
    """One recording. `id` is unique within its corpus and stable between runs."""

    id: str
    samples: int
    """Length in samples at `sample_rate_hz`."""
    sample_rate_hz: int
    speaker: str | None = None
    text: str | None = None

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate_hz


@dataclass(frozen=True)
class Rejected:
    """A file that was left out, and why."""

    id: str
    reason: str


class Corpus(ABC):
    """Where speech comes from. Built as `Class(config, cache_dir=…)`.

    `load` and `load_crop` are called from two threads, one of which reads ahead while the other trains: they
    keep nothing half-done between calls and draw nothing from global generators.
    """

    def __init__(self, config: CorpusConfig, *, cache_dir: Path) -> None:
        self.config = config
        self.cache_dir = cache_dir

    @abstractmethod
    def utterances(self, split: str) -> Sequence[Utterance]:
        """Return a split's utterances in a fixed order. Splits: "train", "valid" and, if any, "test".

        Large corpora make each when it is asked for (`data.utterance_table`): go through them once, and take
        durations from `durations_s`.

        Raises: DataError for a split that the corpus does not have.
        """

    @abstractmethod
    def load(self, utterance: Utterance, *, sample_rate_hz: int) -> Tensor:
        """Return the waveform (S,) float32 in [-1, 1], mono, resampled. Raises: AudioError."""

    def load_crop(self, utterance: Utterance, *, start: int, samples: int, sample_rate_hz: int) -> Tensor:
        """Return `load(…)[start : start + samples]`; corpora that can, decode only that part.

        Positions count samples at `sample_rate_hz`. Raises: AudioError.
        """
        return self.load(utterance, sample_rate_hz=sample_rate_hz)[start : start + samples]

    def rejected(self, split: str) -> Sequence[Rejected]:
        """Return files that were left out of a split when its manifest was made."""
        return ()

    def outside_splits(self) -> Mapping[str, int]:
        """Return how many files there are in which place that no split takes."""
        return {}

    @abstractmethod
    def fingerprint(self, split: str) -> dict[str, Any]:
        """Return JSON values that change whenever the split's audio changes."""


@dataclass(frozen=True)
class Split:
    """A split of a corpus, opened."""

    corpus: Corpus
    name: str
    utterances: Sequence[Utterance]
    augment: AugmentConfig | None = None
    """How what is trained on is changed; `load` and `load_crop` give it as it is."""

    def load(self, index: int, *, sample_rate_hz: int) -> Tensor:
        """Return the waveform (S,) of utterance `index`."""
        return self.corpus.load(self.utterances[index], sample_rate_hz=sample_rate_hz)

    def load_crop(self, index: int, *, start: int, samples: int, sample_rate_hz: int) -> Tensor:
        """Return samples `start` to `start + samples` (fewer at the end) of utterance `index`."""
        utterance = self.utterances[index]
        return self.corpus.load_crop(utterance, start=start, samples=samples, sample_rate_hz=sample_rate_hz)

    @cached_property
    def durations_s(self) -> npt.NDArray[np.float64]:
        """The duration of each utterance in seconds, (N,)."""
        return durations_s(self.utterances)

    @property
    def seconds(self) -> float:
        return float(self.durations_s.sum())


def durations_s(utterances: Sequence[Utterance]) -> npt.NDArray[np.float64]:
    """Return the duration of each utterance in seconds, (N,); tables tell it without making utterances."""
    import numpy as np

    known = getattr(utterances, "durations_s", None)
    if known is not None:
        return np.asarray(known(), np.float64)
    return np.fromiter((utterance.seconds for utterance in utterances), np.float64, len(utterances))


def content_digest(utterances: Sequence[Utterance]) -> str:
    """Return 16 hex digits that change when any utterance's id or length does, or their order."""
    known = getattr(utterances, "content_digest", None)
    if known is not None:
        return str(known())
    digest = hashlib.sha256()
    for utterance in utterances:
        digest.update(f"{utterance.id}\0{utterance.samples}\0{utterance.sample_rate_hz}\n".encode())
    return digest.hexdigest()[:16]


def outside_in_words(corpus: Corpus) -> str:
    """Return what a corpus holds that is in none of its splits, and what to do; "" when all is in one."""
    places = corpus.outside_splits()
    if not places:
        return ""
    listed = [f"{count} in {place}" for place, count in sorted(places.items(), key=lambda item: -item[1])]
    more = f" and {len(listed) - MOST_LISTED} other folders" if len(listed) > MOST_LISTED else ""
    total = sum(places.values())
    return (
        f"{total} {'file is' if total == 1 else 'files are'} in no split: {', '.join(listed[:MOST_LISTED])}"
        f"{more}. Move them, or name the folders of the splits in `data.train`, `data.valid`, `data.test`"
    )


def open_split(data: DataConfig, name: str, *, cache_dir: Path, registry: Registry | None = None) -> Split:
    """Open a split of a recipe's `data:` block. `registry`: has its corpora; default: what is installed.

    Raises: DataError when the recipe or the corpus has no such split, or it is empty.
    """
    from wavslm_core.errors import DataError
    from wavslm_core.parts.plugins import load_registry

    config = data.corpus_for(name)
    corpus: Corpus = (registry or load_registry()).build(config, cache_dir=cache_dir)
    utterances = corpus.utterances(name)
    if not utterances:
        rejected = corpus.rejected(name)
        why = ""
        if rejected:
            why = f" ({len(rejected)} files were left out, the first because {rejected[0].reason})"
        raise DataError(
            f"split '{name}' of corpus '{config.registered_name()}' has no usable audio"
            f"{why}. Check the `data:` block of the recipe."
        )
    return Split(corpus, name, utterances, augment_of(data) if name == "train" else None)


class CutConfig(Options):
    """How recordings are cut into utterances, which are then read without the rest of their file."""

    by: Literal["fixed", "voice_activity"]
    """`fixed`: a cut every `seconds`. `voice_activity`: in pauses, which are left out; every file is decoded
    once for it."""
    seconds: float = Field(default=15.0, gt=0)
    """The longest utterance."""
    shortest_seconds: float = Field(default=1.0, ge=0)
    """What is shorter is left out: the rest at a recording's end, or a stretch of voice."""
    pause_seconds: float = Field(default=0.3, gt=0)
    """`voice_activity`: a pause of this length or more is a place to cut; shorter ones are speech."""
    margin_seconds: float = Field(default=0.1, ge=0)
    """`voice_activity`: how much of the pauses around it an utterance keeps."""

    @model_validator(mode="after")
    def _fits(self) -> CutConfig:
        if self.shortest_seconds > self.seconds:
            raise ValueError(
                f"shortest_seconds is {self.shortest_seconds:g}, more than seconds, which is "
                f"{self.seconds:g}: nothing would be kept"
            )
        if self.by == "voice_activity" and 2 * self.margin_seconds >= self.seconds:
            raise ValueError(
                f"margin_seconds is {self.margin_seconds:g}: two margins must be shorter than seconds, "
                f"which is {self.seconds:g}"
            )
        return self
