"""Suite `tiny_swuggy`: a sentence that ends with a word, or with a non-word that is one sound off.

Two words exchange a sound, such as "kite" and "ball": both pairs together have the same sounds on both sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import ClassVar

from wavslm_core.plugin import Group
from wavslm_tiny_speech.config import TinySwuggyConfig
from wavslm_tiny_speech.phonotactics import Phonotactics, Sounds, clearly_differ, exchanged, kind_of
from wavslm_tiny_speech.sentences import BANDS, FREQUENT, band_of, noun_endings, scenes, vocabulary, words_of
from wavslm_tiny_speech.stories import written
from wavslm_tiny_speech.takes import Studio, Take, all_told
from wavslm_tiny_speech.tiny_suite import TinySuite, group_of_voice, random_voice
from wavslm_tiny_speech.voices import Voice

POOL = 60
"""Sentences among which a partner is looked for."""
RAREST = 25
"""In one of so many pairs of a type, a word may be right; in two of a few."""


@dataclass(frozen=True)
class _Sentence:
    """A sentence, its last word apart."""

    start: str
    word: str

    def text(self, sounds: Sounds) -> str:
        return f"{self.start} [[{'|'.join(sounds)}]]."


class TinySwuggy(TinySuite[TinySwuggyConfig]):
    """See `TinySwuggyConfig`."""

    title: ClassVar[str] = "tiny sWUGGY"
    kinds: ClassVar[tuple[str, ...]] = ("vowel", "consonant")
    groups: ClassVar[tuple[Group, ...]] = (
        Group("type", "sound", kinds),
        Group("band", "per 1,000 stories", (*BANDS, FREQUENT)),
        Group("length", "sounds"),
        Group("voice", "voice"),
    )

    def sets(self, kind: str, studio: Studio, random: Random) -> Iterator[Sequence[Take]]:
        sentences = _sentences(random)
        used: Counter[str] = Counter()
        most = max(2, self.config.pairs // RAREST)
        spoken: dict[Voice, tuple[dict[str, Sounds], Phonotactics]] = {}
        while True:
            voice = random_voice(random)
            if voice not in spoken:
                words = list(vocabulary())
                sounds = dict(zip(words, studio.espeak.sounds(words, voice), strict=True))
                spoken[voice] = sounds, Phonotactics.of(sounds.values())
            free = (sentence for sentence in sentences if used[sentence.word] < most)
            found = _exchange(next(free), islice(free, POOL), kind, *spoken[voice], random)
            if found is None:
                continue
            takes = [
                studio.both(
                    sentence.text(right),
                    sentence.text(wrong),
                    voice,
                    {
                        "type": kind,
                        "band": band_of(sentence.word),
                        "length": str(len(right)),
                        **group_of_voice(voice),
                    },
                )
                for sentence, right, wrong in found
            ]
            if both := all_told(takes):
                used.update(sentence.word for sentence, _, _ in found)
                yield both


def _sentences(random: Random) -> Iterator[_Sentence]:
    for scene in scenes(random):
        if beginnings := noun_endings(scene):
            start, _, word = written([random.choice(beginnings)], scene.fields).rpartition(" ")
            if words_of(word) == [word.lower()] and word.lower() in vocabulary():
                yield _Sentence(start, word.lower())


def _exchange(
    one: _Sentence,
    others: Iterable[_Sentence],
    kind: str,
    sounds: dict[str, Sounds],
    legal: Phonotactics,
    random: Random,
) -> list[tuple[_Sentence, Sounds, Sounds]] | None:
    """Return two sentences that exchange a sound: each with its last word, right and wrong."""
    word = sounds[one.word]
    for other in others:
        partner = sounds[other.word]
        places = [
            (here, there)
            for here, sound in enumerate(word)
            for there, its in enumerate(partner)
            if kind_of(sound) == kind_of(its) == kind and clearly_differ(sound, its)
        ]
        random.shuffle(places)
        for here, there in places:
            wrong = exchanged(word, here, partner[there]), exchanged(partner, there, word[here])
            if legal.allows(wrong[0]) and legal.allows(wrong[1]):
                return [(one, word, wrong[0]), (other, partner, wrong[1])]
    return None
