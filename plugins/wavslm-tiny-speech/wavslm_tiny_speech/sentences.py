"""Sentences for suites: of the corpus's own words and kinds, about combinations that training never has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from wavslm_tiny_speech.stories import PLOTS, Plot, draw_fields, tell
from wavslm_tiny_speech.words import Topic

TOLD = 2000
"""Stories of training that are told to know its words, and how often each comes."""
BANDS = {"<15": 15, "15-29": 30, "30-59": 60}
FREQUENT = "≥60"
"""Bands of how often a word comes in a thousand stories; the last one has no end."""
NOUNS = ("thing", "place", "animal", "dish", "object", "vehicle", "goal", "plant", "friend", "noise", "item")
"""Fields that end with a noun or a name."""


@dataclass(frozen=True)
class Scene:
    """A plot and what fills its places, with the character and the topic or place kept from training."""

    plot: Plot
    topic: Topic
    fields: Mapping[str, str]

    @property
    def key(self) -> str:
        """The field that its topic is known by."""
        return next(iter(self.topic))

    def is_kept_from_training(self, template: str) -> bool:
        """Tell whether a text names a character together with a topic or place that training lacks."""
        held = fields_in(template)
        return "who" in held and bool(held & {self.key, "place"})


def scenes(random: Random, plots: Sequence[Plot] = PLOTS) -> Iterator[Scene]:
    """Yield scenes without an end."""
    while True:
        plot = random.choice(plots)
        fields = draw_fields(random, plot, held_out=True)
        if fields is not None:
            topic = next(topic for topic in plot.topics if topic.items() <= fields.items())
            yield Scene(plot, topic, fields)


def fields_in(template: str) -> set[str]:
    return set(re.findall(r"{(\w+)}", template))


def words_of(text: str) -> list[str]:
    """Return the words of a text, in small letters."""
    return re.findall(r"[a-z']+", text.lower())


@cache
def vocabulary() -> Mapping[str, float]:
    """Return word → how often it comes in a thousand stories of training."""
    counted: Counter[str] = Counter()
    for number in range(TOLD):
        counted.update(words_of(tell(Random(f"vocabulary/{number}"), held_out=False)))
    return {word: 1000 * count / TOLD for word, count in sorted(counted.items())}


def band_of(word: str) -> str:
    """Return the band of a word's frequency."""
    often = vocabulary()[word]
    return next((band for band, below in BANDS.items() if often < below), FREQUENT)


def noun_endings(scene: Scene) -> list[str]:
    """Return beginnings of the plot's sentences that end with a noun and could be sentences."""
    found = []
    for ways in scene.plot.sentences:
        for template in ways:
            for match in re.finditer(r"{(\w+)}", template):
                beginning = template[: match.end()]
                if match[1] in NOUNS and scene.is_kept_from_training(beginning):
                    found.append(beginning)
    return found
