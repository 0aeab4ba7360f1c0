"""Which pieces of whose speech stand together: speakers in turn, and what was used least."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from wavslm_suites.config import SpeakerConsistencyConfig, SpeakerTask
from wavslm_suites.halves import Piece


@dataclass(eq=False)
class Speaker:
    """A speaker, whose utterances are cut into pieces when they are needed."""

    name: str
    sex: str | None
    utterances: list[int]
    """Those that are not cut yet, the next one last."""
    pieces: list[Piece] = field(default_factory=list)


Item = tuple[tuple[Speaker, Piece, Piece], tuple[Speaker, Piece, Piece]]
"""Two speakers, and of each a first and a second half."""


class Draws:
    """The items of a task. Each speaker comes in turn, with the other one whom they met least so far."""

    def __init__(
        self,
        config: SpeakerConsistencyConfig,
        task: SpeakerTask,
        speakers: Sequence[Speaker],
        cut_next: Callable[[Speaker], bool],
    ) -> None:
        self.config, self.task, self.speakers, self.cut_next = config, task, speakers, cut_next
        self.random = Random(f"{config.seed}/{task}")
        self.firsts: Counter[Piece] = Counter()
        self.seconds: Counter[Piece] = Counter()
        self.taken: set[frozenset[tuple[Piece, Piece]]] = set()
        """First and second halves that stand together in the right recordings of an item."""
        self.right: set[tuple[Piece, Piece]] = set()
        """Those of a right recording, where they need not be the same again."""
        self.met: Counter[frozenset[str]] = Counter()
        self.spent: set[str] = set()
        """Speakers of whom nothing is left."""

    def others(self, speaker: Speaker) -> list[Speaker]:
        """Return those to whom a recording of a speaker may switch."""
        if self.task == "gender":
            return [one for one in self.speakers if speaker.sex and one.sex and one.sex != speaker.sex]
        return [one for one in self.speakers if one is not speaker and one.sex == speaker.sex]

    def items(self) -> Iterator[Item]:
        """Yield items as long as there are any."""
        found = True
        while found:
            found = False
            for one in self.random.sample(self.speakers, len(self.speakers)):
                item = self._item(one)
                if item is None:
                    continue
                found = True
                for _, first, second in item:
                    self.firsts[first] += 1
                    self.seconds[second] += 1
                self.taken.add(halves_of(item))
                if self.config.second == "other_utterance":
                    self.right |= halves_of(item)
                self.met[frozenset(speaker.name for speaker, _, _ in item)] += 1
                yield item

    def _item(self, one: Speaker) -> Item | None:
        others = [other for other in self.others(one) if other.name not in self.spent]
        halves = self._halves(one) if others and one.name not in self.spent else None
        if halves is None:
            return None
        order = {other.name: self.random.random() for other in others}
        others.sort(key=lambda other: (self.met[frozenset((one.name, other.name))], order[other.name]))
        for other in others:
            others_halves = self._halves(other)
            if others_halves is not None and frozenset((halves, others_halves)) not in self.taken:
                return (one, *halves), (other, *others_halves)
        return None

    def _halves(self, speaker: Speaker) -> tuple[Piece, Piece] | None:
        """Return what was used least, cutting more speech before anything is used again."""
        while True:
            found = self._least_used(speaker.pieces)
            if found is not None and not self.firsts[found[0]] + self.seconds[found[1]]:
                return found
            if not self.cut_next(speaker):
                break
        if found is None:
            self.spent.add(speaker.name)
        return found

    def _least_used(self, pieces: Sequence[Piece]) -> tuple[Piece, Piece] | None:
        uses = self.config.uses
        order = {piece: self.random.random() for piece in pieces}
        firsts = [piece for piece in pieces if piece.ends_in_pause and self.firsts[piece] < uses]
        for first in sorted(firsts, key=lambda piece: (self.firsts[piece], order[piece])):
            seconds = [
                piece
                for piece in pieces
                if self._follows(first, piece)
                and self.seconds[piece] < uses
                and (first, piece) not in self.right
            ]
            if seconds:
                return first, min(seconds, key=lambda piece: (self.seconds[piece], order[piece]))
        return None

    def _follows(self, first: Piece, second: Piece) -> bool:
        if self.config.second == "other_utterance":
            return second.utterance != first.utterance
        return second.utterance == first.utterance and second.voice[0] == first.voice[1]


def halves_of(item: Item) -> frozenset[tuple[Piece, Piece]]:
    return frozenset((first, second) for _, first, second in item)


def counted(speakers: Sequence[Speaker]) -> str:
    """Return how many speakers there are, and of which sex, in words."""
    sexes = Counter(speaker.sex for speaker in speakers if speaker.sex)
    told = ", ".join(f"{number} {sex}" for sex, number in sorted(sexes.items()))
    return f"{len(speakers)} speakers{f' ({told})' if told else ''}"
