"""Suite `tiny_salmon`: two sentences of a story, the second in the voice and the room of the first or not.

Both sentences are made in both ways, and each of the second ones is right once and wrong once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

import numpy as np

from wavslm_core.plugin import Average, Group
from wavslm_tiny_speech.config import SALMON_TASKS, TinySalmonConfig
from wavslm_tiny_speech.recording import Floats, level, sixteen_bits
from wavslm_tiny_speech.sentences import Scene, scenes
from wavslm_tiny_speech.stories import written
from wavslm_tiny_speech.surroundings import NOISES, ROOMS, in_noise, in_room
from wavslm_tiny_speech.takes import Piece, Studio, Take, crossed
from wavslm_tiny_speech.tiny_suite import VOICES, TinySuite, group_of_voice, random_voice
from wavslm_tiny_speech.voices import FEMALE_VALID_TIMBRES, Voice

WORDS_PER_MINUTE = 145, 195
MELODIES = 15, 85
"""How much the pitch moves, in percent."""
MOST_WORDS = 9
"""Of a sentence."""
NOISE_SECONDS = 12.0
"""More than two sentences last."""


@dataclass(frozen=True)
class _Condition:
    """In whose voice something is said, and where."""

    voice: Voice
    noise: Floats | None = None
    room: Floats | None = None

    def said(self, studio: Studio, text: str, *, start: int = 0, more: bool = False) -> Piece:
        """Return a piece that begins at sample `start` of a recording."""
        waveform = studio.say(text, self.voice, more=more)
        if self.noise is not None:
            waveform = in_noise(waveform, self.noise[start:])
        if self.room is not None:
            waveform = in_room(waveform, self.room, studio.sample_rate_hz)
        return Piece(sixteen_bits(level(waveform)), text)


class TinySalmon(TinySuite[TinySalmonConfig]):
    """See `TinySalmonConfig`."""

    title: ClassVar[str] = "tiny SALMon"
    kinds: ClassVar[tuple[str, ...]] = SALMON_TASKS
    about_spectra: ClassVar[tuple[str, ...]] = ("speaker", "gender", "background", "room")
    groups: ClassVar[tuple[Group, ...]] = (Group("task", "task", SALMON_TASKS), Group("voice", "voice"))
    averages: ClassVar[tuple[Average, ...]] = (Average("mean", "mean of tasks", over="task"),)

    def sets(self, kind: str, studio: Studio, random: Random) -> Iterator[Sequence[Take]]:
        for scene in scenes(random):
            texts = _two_sentences(scene, random)
            if texts is None:
                continue
            conditions = _conditions(kind, studio.sample_rate_hz, random)
            firsts = [condition.said(studio, texts[0], more=True) for condition in conditions]
            seconds = [
                condition.said(studio, texts[1], start=len(first.samples))
                for condition, first in zip(conditions, firsts, strict=True)
            ]
            groups = [{"task": kind, **group_of_voice(condition.voice)} for condition in conditions]
            yield crossed((firsts[0], firsts[1]), (seconds[0], seconds[1]), (groups[0], groups[1]))


def _two_sentences(scene: Scene, random: Random) -> list[str] | None:
    """Return how a story begins, or None where a sentence is long or the first one was in training."""
    templates = [random.choice(ways) for ways in scene.plot.sentences[:2]]
    found = re.split(r"(?<=\.) ", written(templates, scene.fields))
    short = all(len(text.split()) <= MOST_WORDS for text in found)
    return found if len(found) == 2 and short and scene.is_kept_from_training(templates[0]) else None


def _conditions(task: str, sample_rate_hz: int, random: Random) -> tuple[_Condition, _Condition]:
    """Return two that differ in what a task is about."""
    voice = random_voice(random)
    rng = np.random.default_rng(random.getrandbits(64))
    if task == "background":
        kinds = random.sample(sorted(NOISES), 2)
        noises = [NOISES[kind](rng, round(NOISE_SECONDS * sample_rate_hz), sample_rate_hz) for kind in kinds]
        return _Condition(voice, noise=noises[0]), _Condition(voice, noise=noises[1])
    if task == "room":
        rooms = [ROOMS[kind].response(rng, sample_rate_hz) for kind in random.sample(sorted(ROOMS), 2)]
        return _Condition(voice, room=rooms[0]), _Condition(voice, room=rooms[1])
    if task == "rate":
        voices = [replace(voice, words_per_minute=rate) for rate in WORDS_PER_MINUTE]
    elif task == "pitch_range":
        voices = [replace(voice, melody=melody) for melody in MELODIES]
    else:
        voices = [voice, random.choice([other for other in VOICES if _switches(task, voice, other)])]
    random.shuffle(voices)
    return _Condition(voices[0]), _Condition(voices[1])


def _switches(task: str, voice: Voice, other: Voice) -> bool:
    genders = [each.timbre in FEMALE_VALID_TIMBRES for each in (voice, other)]
    return (genders[0] == genders[1]) == (task == "speaker") and voice.timbre != other.timbre
