"""Sounds of words, and which sequences of them are legal, as far as a vocabulary tells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Sounds = tuple[str, ...]
"""By espeak-ng's names; stress marks stand before vowels."""
STRESS = "',"
EDGE = "#"
CONSONANTS = frozenset(
    {"p", "b", "t", "d", "k", "g", "f", "v", "T", "D", "s", "z"}
    | {"S", "Z", "h", "m", "n", "N", "l", "r", "w", "j", "tS", "dZ"}
)
"""Those that are sounds of their own; others, such as a flap, are how one of these sounds somewhere."""
_VOWELS = frozenset("aeiouAEIOUV03@")


def unstressed(sound: str) -> str:
    return sound.lstrip(STRESS)


def is_vowel(sound: str) -> bool:
    return unstressed(sound)[:1] in _VOWELS


def kind_of(sound: str) -> str | None:
    """Return "vowel" for a stressed one, "consonant", or None for what is not exchanged."""
    if is_vowel(sound):
        return "vowel" if sound.startswith("'") else None
    return "consonant" if sound in CONSONANTS else None


def clearly_differ(one: str, other: str) -> bool:
    """Tell whether two sounds are more than variants of one, which begin with the same letter."""
    return unstressed(one)[0] != unstressed(other)[0]


def exchanged(word: Sounds, place: int, sound: str) -> Sounds:
    """Return a word with another sound, stressed as what was there."""
    mark = "'" if word[place].startswith("'") else ""
    return (*word[:place], mark + unstressed(sound), *word[place + 1 :])


@dataclass(frozen=True)
class Phonotactics:
    """What is legal: neighbours that some word has, and runs of consonants that some word has there."""

    words: frozenset[Sounds]
    neighbours: frozenset[tuple[str, str]]
    runs: frozenset[Sounds]

    @classmethod
    def of(cls, vocabulary: Iterable[Sounds]) -> Phonotactics:
        """Return what words without marks of stress show."""
        plain = [tuple(unstressed(sound) for sound in word) for word in vocabulary]
        return cls(
            frozenset(plain),
            frozenset(pair for word in plain for pair in _neighbours(word)),
            frozenset(run for word in plain for run in _runs(word)),
        )

    def allows(self, word: Sounds) -> bool:
        """Tell whether a sequence is legal, and no word of the vocabulary."""
        plain = tuple(unstressed(sound) for sound in word)
        legal = {*_neighbours(plain)} <= self.neighbours and {*_runs(plain)} <= self.runs
        return legal and plain not in self.words


def _neighbours(word: Sounds) -> list[tuple[str, str]]:
    return list(zip((EDGE, *word), (*word, EDGE), strict=True))


def _runs(word: Sounds) -> Iterator[Sounds]:
    """Yield the runs of consonants, with the edges of the word that they touch."""
    run: Sounds = (EDGE,)
    for sound in word:
        if is_vowel(sound):
            yield run
            run = ()
        else:
            run = (*run, sound)
    yield (*run, EDGE)
