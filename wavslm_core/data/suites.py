"""What a suite is: pairs of recordings, the first of which a good language model finds likelier.

A suite knows how its files lie and are paired, which groups are reported, and what its official scorer reads
and writes. It scores nothing itself (`evaluation.pair_scores` does) and downloads nothing.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Generic, Literal, TypeVar

from wavslm_core.data.audio_source import AudioSource
from wavslm_core.parts.configs import SuiteConfig

SuiteConfigT = TypeVar("SuiteConfigT", bound=SuiteConfig)
Fault = Literal["missing", "unreadable", "unpaired", "duplicate", "wrongly named"]


@dataclass(frozen=True)
class Pair:
    """Two recordings, by the names that `Suite.source` takes."""

    id: str
    """Unique in its suite."""
    positive: str
    negative: str
    item: str
    """What was drawn at random when the suite was made: one item spoken by four voices is four pairs."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Group of `Suite.groups` → which of it this pair is in; a group that does not apply is left out."""
    split_s: tuple[float, float] | None = None
    """Seconds from which positive and negative differ, where that is known: both begin alike."""
    texts: tuple[str, str] = ("", "")
    """What official tables call positive and negative."""


@dataclass(frozen=True)
class Finding:
    """Something wrong with the data, for which pairs are left out."""

    fault: Fault
    what: str
    """The file, or the row, and what is wrong with it."""


@dataclass(frozen=True)
class PairList:
    """What is there of a suite."""

    pairs: Sequence[Pair]
    findings: Sequence[Finding] = ()
    published_pairs: int | None = None
    """Pairs of the published set, where every copy has that many; None where a table with the data says
    what belongs to it."""
    remark: str = ""
    """What tables should say of this copy besides."""


@dataclass(frozen=True)
class Group:
    """A way to divide the pairs of a suite, such as by voice."""

    name: str
    title: str
    values: tuple[str, ...] = ()
    """In the order in which they are shown; those that are not named come after, numbers in them by size."""

    def ordered(self, found: Iterable[str]) -> list[str]:
        """Return values in the order in which they are shown."""
        places = {value: place for place, value in enumerate(self.values)}
        return sorted(set(found), key=lambda value: (places.get(value, len(places)), by_number(value)))


@dataclass(frozen=True)
class Average:
    """A number for a whole suite: the mean over its items, or over groups of them."""

    name: str
    title: str
    over: str | None = None
    """The group whose values count alike, however many items each has; None: every item counts alike."""
    without: tuple[str, str] | None = None
    """(group, value) of the pairs that are left out."""


ALL_PAIRS = Average("all", "all pairs")


class Suite(ABC, Generic[SuiteConfigT]):
    """Pairs of recordings. Built as `Class(config, cache_dir=…)`, which looks at no file.

    Nothing is downloaded; a suite that is made on the spot keeps what it makes in `cache_dir`.
    """

    title: ClassVar[str]
    """What tables call it."""
    groups: ClassVar[tuple[Group, ...]] = ()
    """What is reported besides the averages, in this order."""
    averages: ClassVar[tuple[Average, ...]] = (ALL_PAIRS,)
    """The first stands for the suite."""
    chance: ClassVar[float] = 0.5
    """What guessing scores."""

    def __init__(self, config: SuiteConfigT, *, cache_dir: Path = Path(".cache")) -> None:
        self.config = config
        self.cache_dir = cache_dir

    @abstractmethod
    def read(self) -> PairList:
        """Return the pairs, in a fixed order, and all that is wrong with the data.

        Raises: DataError where nothing of it can be used, or it cannot be known what belongs together.
        """

    @abstractmethod
    def source(self, name: str) -> AudioSource:
        """Return the recording that a pair names: a file or bytes, of any format and rate. After `read`."""

    def submission(self, scores: Mapping[str, float]) -> Mapping[str, str]:
        """Return what the official scorer reads: path below `submission/` → text; nothing without one.

        `scores`: recording → score, higher where it is likelier.
        """
        return {}

    def official(self, credits: Sequence[tuple[Pair, float]]) -> Mapping[str, str]:
        """Return what the official scorer writes: path below `official/` → text; nothing without one.

        `credits`: every pair, in the order of `read`, with 1 where the positive is likelier by the scores of
        the submission, 0.5 for a tie, else 0.
        """
        return {}


def by_number(text: str) -> tuple[tuple[int, str], ...]:
    """Return a key that sorts texts with the numbers in them by size."""
    pieces = re.split(r"(\d+)", text)
    return tuple((int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces)
