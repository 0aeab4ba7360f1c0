from __future__ import annotations

import re
from random import Random

from wavslm_tiny_speech import words
from wavslm_tiny_speech.stories import FEWEST_WORDS, MOST_WORDS, PLOTS, is_held_out, tell
from wavslm_tiny_speech.voices import TRAIN_TIMBRES, VALID_TIMBRES, voice


def stories(count: int, *, held_out: bool) -> list[str]:
    return [tell(Random(f"{held_out}/{number}"), held_out=held_out) for number in range(count)]


def test_stories_are_well_formed_and_varied() -> None:
    told = stories(2000, held_out=False)
    for story in told:
        assert FEWEST_WORDS <= len(story.split()) <= MOST_WORDS
        assert "{" not in story
        assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n (?!hour)[^aeiou]", story), story
        assert all(sentence[0].isupper() for sentence in re.split(r"(?<=\.) ", story))
        assert story.endswith(".")
    assert len(set(told)) > 1950
    assert len({word.strip(".,").lower() for story in told for word in story.split()}) > 450


def test_every_plot_can_be_told() -> None:
    told = " ".join(stories(3000, held_out=False))
    for plot in PLOTS:
        for topic in plot.topics:
            assert next(iter(topic.values())) in told


def test_characters_come_back() -> None:
    names = words.GIRLS + words.BOYS
    again = 0
    for story in stories(500, held_out=False):
        sentences = re.split(r"(?<=\.) ", story)
        first = [name for name in names if name in sentences[0]]
        rest = " ".join(sentences[1:])
        again += any(name in rest for name in first) or bool(re.search(r"\b([Hh]e|[Ss]he|[Tt]hey)\b", rest))
    assert again > 450


def test_a_sixth_of_all_combinations_is_held_out() -> None:
    pairs = [(name, place) for name in words.GIRLS + words.BOYS for place in words.PLACES]
    held_out = sum(is_held_out(*pair) for pair in pairs) / len(pairs)
    assert 0.13 < held_out < 0.20


def test_validation_stories_use_combinations_that_training_lacks() -> None:
    train, valid = stories(3000, held_out=False), stories(400, held_out=True)
    assert not set(train) & set(valid)
    opening = re.compile(rf"({'|'.join(words.GIRLS + words.BOYS)}) took a (\w+) to")

    def journeys(told: list[str]) -> set[tuple[str, str]]:
        return {found.groups() for story in told if (found := opening.search(story))}  # type: ignore[misc]

    assert journeys(train)
    assert journeys(valid)
    assert not journeys(train) & journeys(valid)


def test_voices_are_fixed_many_and_held_out() -> None:
    train = [voice(number, held_out=False) for number in range(48)]
    valid = [voice(number, held_out=True) for number in range(8)]
    assert len({item.id for item in train}) == 48
    assert {item.timbre for item in train} == set(TRAIN_TIMBRES)
    assert {item.timbre for item in valid} == set(VALID_TIMBRES)
    assert not set(TRAIN_TIMBRES) & set(VALID_TIMBRES)
    assert voice(7, held_out=False) == train[7]
