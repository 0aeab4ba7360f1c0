"""Little stories from a grammar: someone, somewhere, and one thing that leads to another.

Stories for validation are about combinations that training never has: whether a character may meet a topic
or a place is decided by a hash of the two, and each side draws from its own combinations only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from random import Random

from wavslm_tiny_speech import words
from wavslm_tiny_speech.words import Topic

HELD_OUT_ONE_IN = 6
"""One in so many combinations belongs to validation."""
FEWEST_WORDS, MOST_WORDS = 14, 27


@dataclass(frozen=True)
class Plot:
    """A kind of story: topics it can be about, and for each sentence the ways to say it."""

    topics: tuple[Topic, ...]
    sentences: tuple[tuple[str, ...], ...]
    endings: tuple[str, ...]
    """A last sentence that may be left out."""


PLOTS = (
    Plot(
        words.THINGS,
        (
            ("{time} {who} lost a {adjective} {thing} {place}.", "{who} could not find the {thing} {place}."),
            ("{he} looked for the {thing} everywhere.", "{he} was sad and asked {friend} for help."),
            (
                "Then {friend} found the {thing} {spot}.",
                "At last the {thing} was {spot}, where {friend} had put it.",
            ),
        ),
        ("{who} was {glad} to have the {thing} back.", "{who} thanked {friend}."),
    ),
    Plot(
        words.THINGS,
        (
            (
                "{time} {who} bought a {adjective} {thing} for {friend}.",
                "{who} saw a {adjective} {thing} {place} and bought it for {friend}.",
            ),
            ("{friend} put the {thing} {spot}.", "{friend} carried the {thing} home and put it {spot}."),
        ),
        ("{friend} was {glad}.", "Now {who} wants a {thing} too.", "The {thing} is still {spot}."),
    ),
    Plot(
        words.WEATHER,
        (
            ("{weather} {place}.", "{time} {who} went out. {weather} {place}."),
            ("So {who} took the {item}.", "{who} was glad about the {item} that {friend} had brought."),
            ("With the {item} {he} {result}.", "Thanks to the {item} {who} {result}."),
        ),
        ("{friend} had no {item} and went home.", "{who} gave the {item} back to {friend}."),
    ),
    Plot(
        words.ANIMALS,
        (
            (
                "{time} {who} met a hungry {animal} {place}.",
                "A {animal} came to {who} {place}. It was hungry.",
            ),
            ("{he} gave the {animal} {food}.", "{friend} had {food}, and {who} gave it to the {animal}."),
            ("The {animal} ate {food} and {then}.", "The {animal} was happy and {then}."),
        ),
        ("{who} laughed.", "Now the {animal} visits {who} every day."),
    ),
    Plot(
        words.DISHES,
        (
            ("{time} {who} wanted to make {dish}.", "{who} promised to make {dish} for {friend}."),
            ("{he} needed {need}, so {friend} brought {need}.", "{he} bought {need} {place}."),
            ("Soon there was a {smell} smell of {dish}.", "They ate {dish} together {place}."),
        ),
        ("{friend} asked for more.", "It was the best meal of the week."),
    ),
    Plot(
        words.REPAIRS,
        (
            ("The {object} of {who} {problem}.", "{time} the {object} {place} {problem}."),
            ("{who} asked {friend} for a {tool}.", "{friend} came with a {tool} to help {who}."),
            ("With the {tool} they mended the {object}.", "{who} used the {tool} for an hour."),
        ),
        ("Now the {object} {now}.", "Now it {now}, and {who} is {glad}."),
    ),
    Plot(
        words.JOURNEYS,
        (
            ("{time} {who} took a {vehicle} to {goal}.", "{who} and {friend} went to {goal} in a {vehicle}."),
            ("But the {vehicle} {trouble}.", "On the way the {vehicle} {trouble}."),
            ("So {who} {instead}.", "{he} was not angry and {instead}."),
        ),
        ("{friend} was waiting {place}.", "In the end {he} reached {goal}."),
    ),
    Plot(
        words.PLANTS,
        (
            ("{time} {who} planted a {plant} {place}.", "{friend} gave {who} a {plant} to plant {place}."),
            ("Every day {he} {care} the {plant}.", "{who} {care} the {plant} for weeks."),
            ("In summer the {plant} had {grown}.", "After a while there was {grown}."),
        ),
        ("{who} gave some to {friend}.", "{friend} wants a {plant} as well."),
    ),
    Plot(
        words.GAMES,
        (
            ("{who} and {friend} played {game} {place}.", "{time} {who} played {game} against {friend}."),
            ("{who} {skill}, so {he} won.", "{friend} lost, because {who} {skill}."),
        ),
        (
            "{he} got {prize}.",
            "The winner got {prize}, and {friend} was not sad.",
            "{friend} had never won {game}.",
        ),
    ),
    Plot(
        words.NOISES,
        (
            ("{time} {who} heard {noise} {place}.", "There was {noise} {place}, and {who} woke up."),
            ("{he} was afraid and called {friend}.", "{who} hid {spot} and did not move."),
            ("But {noise} was only {cause}.", "{friend} saw that it was {cause}."),
        ),
        ("They both laughed.", "{who} was brave after that."),
    ),
)


def tell(random: Random, *, held_out: bool) -> str:
    """Return a story; `held_out` chooses whether it is one for validation."""
    while True:
        story = _draw(random, held_out=held_out)
        if story is not None and FEWEST_WORDS <= len(story.split()) <= MOST_WORDS:
            return story


@cache
def is_held_out(who: str, subject: str) -> bool:
    """Return whether this character together with this topic or place belongs to validation."""
    return hashlib.sha256(f"{who} {subject}".encode()).digest()[0] % HELD_OUT_ONE_IN == 0


def _draw(random: Random, *, held_out: bool) -> str | None:
    """Return a story of any length, or None when the character has no such combination with this plot."""
    plot = random.choice(PLOTS)
    fields = draw_fields(random, plot, held_out=held_out)
    if fields is None:
        return None
    sentences = [random.choice(ways) for ways in plot.sentences]
    if random.random() < 0.6:
        sentences.append(random.choice(plot.endings))
    return written(sentences, fields)


def draw_fields(random: Random, plot: Plot, *, held_out: bool) -> dict[str, str] | None:
    """Return what fills the places of a plot's sentences; None when its character has no such combination."""
    girl = random.random() < 0.5
    who = random.choice(words.GIRLS if girl else words.BOYS)
    friend = random.choice([name for name in words.GIRLS + words.BOYS if name != who])
    topics = [topic for topic in plot.topics if is_held_out(who, subject(topic)) == held_out]
    places = [place for place in words.PLACES if is_held_out(who, place) == held_out]
    if not topics or not places:
        return None
    return {
        "who": who,
        "friend": friend,
        "he": "she" if girl else "he",
        "place": random.choice(places),
        "time": random.choice(words.TIMES),
        "adjective": random.choice(words.ADJECTIVES),
        "spot": random.choice(words.SPOTS),
        "glad": random.choice(words.GLAD),
        **random.choice(topics),
    }


def written(sentences: Iterable[str], fields: Mapping[str, str]) -> str:
    """Return sentences with their places filled, capitals and articles as they should be."""
    story = " ".join(sentences).format_map(fields)
    return _with_articles(". ".join(part[:1].upper() + part[1:] for part in story.split(". ")))


def subject(topic: Topic) -> str:
    """Return the word that a topic is known by: the first of its fields."""
    return next(iter(topic.values()))


def _with_articles(text: str) -> str:
    """Write "an" before vowels, wherever the grammar put "a"."""
    tokens = text.split(" ")
    for index, following in enumerate(tokens[1:]):
        if tokens[index] in {"a", "A"} and following[0] in "aeiou":
            tokens[index] += "n"
    return " ".join(tokens)
