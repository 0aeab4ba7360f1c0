"""The voices: accent, timbre, pitch, melody and pace. Validation has timbres that training never hears."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

ACCENTS = (
    "en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us-nyc",
)  # fmt: skip
"""espeak-ng's names: American, British, Received Pronunciation, Scottish, Lancaster, West Midlands,
Caribbean, New York."""

TRAIN_TIMBRES = (
    "m1", "f1", "m3", "f2", "m2", "f3", "m4", "Andrea", "m6", "f5", "john", "Annie", "michael", "linda",
    "paul", "aunty", "david", "belinda", "ed", "grandma", "ian", "shelby", "travis", "norbert", "sandro",
    "m8",
)  # fmt: skip
VALID_TIMBRES = ("m5", "f4", "m7", "Alicia", "rob", "Lee", "benjamin", "grandpa")
FEMALE_VALID_TIMBRES = ("f4", "Alicia")


@dataclass(frozen=True)
class Voice:
    """What the synthesiser is told to sound like."""

    accent: str
    timbre: str
    pitch: int
    """Percent; 50 is the timbre's own pitch."""
    melody: int
    """How much the pitch moves, in percent; 50 is usual."""
    words_per_minute: int

    @property
    def id(self) -> str:
        return f"{self.accent}+{self.timbre}-{self.pitch}-{self.melody}-{self.words_per_minute}"

    @property
    def espeak_name(self) -> str:
        return f"{self.accent}+{self.timbre}"


def voice(number: int, *, held_out: bool) -> Voice:
    """Return voice `number` of training or validation: always the same, however many are used."""
    timbres = VALID_TIMBRES if held_out else TRAIN_TIMBRES
    random = Random(f"voice/{'valid' if held_out else 'train'}/{number}")
    return Voice(
        accent=random.choice(ACCENTS),
        timbre=timbres[number % len(timbres)],
        pitch=random.randint(35, 65),
        melody=random.randint(35, 70),
        words_per_minute=random.randint(150, 190),
    )
