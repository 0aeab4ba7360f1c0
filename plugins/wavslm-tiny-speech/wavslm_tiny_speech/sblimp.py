"""Suite `tiny_sblimp`: a sentence, or one that breaks a rule: agreement or the order of words.

For agreement, pairs come in twos in which each form is right once and wrong once; for order, both recordings
have the same words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import ClassVar

from wavslm_core.plugin import Group
from wavslm_tiny_speech.config import TinySblimpConfig
from wavslm_tiny_speech.sentences import Scene, fields_in, scenes
from wavslm_tiny_speech.stories import PLOTS, is_held_out, subject, written
from wavslm_tiny_speech.takes import Studio, Take, all_told, crossed
from wavslm_tiny_speech.tiny_suite import TinySuite, group_of_voice, random_voice
from wavslm_tiny_speech.voices import Voice
from wavslm_tiny_speech.words import ADJECTIVES, BOYS, GIRLS, THINGS

VERBS = {"find": "found", "make": "made", "get": "got", "see": "saw", "look for": "looked for"}
"""Bare form → past form; the corpus has both."""
ORDERS = {
    "adjective_noun": (
        ("lost a {adjective} {thing} {place}", "lost a {thing} {adjective} {place}"),
        ("bought a {adjective} {thing} for {friend}", "bought a {thing} {adjective} for {friend}"),
    ),
    "article_noun": (
        ("lost the {thing} {place}", "lost {thing} the {place}"),
        ("carried the {thing} home", "carried {thing} the home"),
    ),
    "verb_object": (
        ("lost the {thing} {place}", "the {thing} lost {place}"),
        ("found the {thing} {spot}", "the {thing} found {spot}"),
    ),
}
"""Type → ways to say the same words in the right and in a wrong order, after who does it."""
AGREEMENT = ("pronoun", "verb_form", "article")


class TinySblimp(TinySuite[TinySblimpConfig]):
    """See `TinySblimpConfig`."""

    title: ClassVar[str] = "tiny sBLIMP"
    kinds: ClassVar[tuple[str, ...]] = (*AGREEMENT, *ORDERS)
    groups: ClassVar[tuple[Group, ...]] = (
        Group("type", "type", ("agreement", "word_order")),
        Group("subtype", "subtype", kinds),
        Group("voice", "voice"),
    )

    def sets(self, kind: str, studio: Studio, random: Random) -> Iterator[Sequence[Take]]:
        plots = PLOTS if kind == "pronoun" else [plot for plot in PLOTS if plot.topics is THINGS]
        for scene in scenes(random, plots):
            voice = random_voice(random)
            groups = {
                "type": "agreement" if kind in AGREEMENT else "word_order",
                "subtype": kind,
                **group_of_voice(voice),
            }
            if kind == "pronoun":
                yield from _pronouns(scene, studio, voice, groups, random)
            else:
                texts = _sentences(kind, scene, random)
                takes = [
                    studio.both(right, wrong, voice, groups)
                    for right, wrong in zip(texts[::2], texts[1::2], strict=True)
                ]
                if found := all_told(takes):
                    yield found


def _sentences(kind: str, scene: Scene, random: Random) -> list[str]:
    """Return right and wrong sentences in turn."""
    adjective = random.choice([word for word in ADJECTIVES if word[0] not in "aeiou"])
    if kind == "verb_form":
        bare, past = random.choice(sorted(VERBS.items()))
        frames = "{who} could not VERB the {thing} {place}.", "Then {who} VERB the {thing} {place}."
        forms = (frames[0], bare), (frames[0], past), (frames[1], past), (frames[1], bare)
        templates = [frame.replace("VERB", verb) for frame, verb in forms]
    elif kind == "article":
        verb = random.choice(("lost", "found", "saw", "bought"))
        forms = ("an", "old"), ("a", "old"), ("a", adjective), ("an", adjective)
        templates = [f"{{who}} {verb} {article} {word} {{thing}} {{place}}." for article, word in forms]
    else:
        opening = random.choice(("{time} {who}", "Then {who}", "So {who}"))
        templates = [f"{opening} {order}." for order in random.choice(ORDERS[kind])]
    return [template.format_map({**scene.fields, "adjective": adjective}) for template in templates]


def _pronouns(
    scene: Scene, studio: Studio, voice: Voice, groups: Mapping[str, str], random: Random
) -> Iterator[Sequence[Take]]:
    """Yield, if the scene has it, what someone did, and what she or he did then; the same of someone else."""
    firsts = [
        template
        for template in scene.plot.sentences[0]
        if {"who", scene.key} <= fields_in(template) and not {"friend", "he"} & fields_in(template)
    ]
    thens = [
        template
        for ways in scene.plot.sentences[1:]
        for template in ways
        if "he" in fields_in(template) and "who" not in fields_in(template)
    ]
    who = scene.fields["who"]
    others = [
        name
        for name in (BOYS if who in GIRLS else GIRLS)
        if is_held_out(name, subject(scene.topic)) and name != scene.fields["friend"]
    ]
    if not (firsts and thens and others):
        return
    first, then = random.choice(firsts), random.choice(thens)
    people = {who: scene.fields["he"]}
    people[random.choice(others)] = "he" if who in GIRLS else "she"
    fields = [{**scene.fields, "who": name, "he": pronoun} for name, pronoun in people.items()]
    one, other = (studio.piece(written([first], each), voice, more=True) for each in fields)
    of_one, of_other = (studio.piece(written([then], each), voice) for each in fields)
    yield crossed((one, other), (of_one, of_other), (groups, groups))
