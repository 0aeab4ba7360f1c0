"""Suite `tiny_storycloze`: a story with its ending, or with that of a story that went another way.

Two stories that differ in their topic alone exchange endings, so that each is right once and wrong once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from random import Random
from typing import ClassVar

from wavslm_core.plugin import Group
from wavslm_tiny_speech.config import TinyStoryclozeConfig
from wavslm_tiny_speech.sentences import Scene, fields_in, scenes
from wavslm_tiny_speech.stories import MOST_WORDS, is_held_out, subject, written
from wavslm_tiny_speech.takes import Studio, Take, crossed
from wavslm_tiny_speech.tiny_suite import TinySuite, group_of_voice, random_voice


class TinyStorycloze(TinySuite[TinyStoryclozeConfig]):
    """See `TinyStoryclozeConfig`."""

    title: ClassVar[str] = "tiny StoryCloze"
    kinds: ClassVar[tuple[str, ...]] = ("reference", "consequence")
    groups: ClassVar[tuple[Group, ...]] = (Group("type", "type", kinds), Group("voice", "voice"))

    def sets(self, kind: str, studio: Studio, random: Random) -> Iterator[Sequence[Take]]:
        for scene in scenes(random):
            told = _told(scene, kind, random)
            others = [
                topic
                for topic in scene.plot.topics
                if topic is not scene.topic and is_held_out(scene.fields["who"], subject(topic))
            ]
            if told is None or not others:
                continue
            story, ending = told
            fields = [{**scene.fields, **topic} for topic in (scene.topic, random.choice(others))]
            endings = [written([ending], each) for each in fields]
            stories = [written(story, each) for each in fields]
            # The corpus has no longer ones, and not the words that only they would have.
            most = max(len(f"{one} {end}".split()) for one, end in product(stories, endings))
            if endings[0] == endings[1] or most > MOST_WORDS:
                continue
            voice = random_voice(random)
            groups = {"type": kind, **group_of_voice(voice)}
            one, other = (studio.piece(text, voice, more=True) for text in stories)
            of_one, of_other = (studio.piece(text, voice) for text in endings)
            yield crossed((one, other), (of_one, of_other), (groups, groups))


def _told(scene: Scene, kind: str, random: Random) -> tuple[list[str], str] | None:
    """Return the sentences of a story and its ending, or None where it is not of a kind.

    `reference`: what the ending names of the topic was named before. `consequence`: none of it was.
    """
    ways = [*scene.plot.sentences, scene.plot.endings]
    length = random.randrange(1, len(ways))
    story, ending = [random.choice(several) for several in ways[:length]], random.choice(ways[length])
    before = fields_in(" ".join(story)) & scene.topic.keys()
    after = fields_in(ending) & scene.topic.keys()
    if not before or not after or not scene.is_kept_from_training(" ".join(story)):
        return None
    fits = after <= before if kind == "reference" else not after & before
    return (story, ending) if fits else None
