"""A suite that is spoken where it is asked for, the first time, of sets of pairs that are balanced."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Generic, TypeVar

from wavslm_core.plugin import MadePair, MadeSuite, progress_bar
from wavslm_tiny_speech.balance import balanced, clues_with
from wavslm_tiny_speech.cache import generator_digest
from wavslm_tiny_speech.config import TinySuiteConfig
from wavslm_tiny_speech.espeak import Espeak
from wavslm_tiny_speech.takes import Studio, Take
from wavslm_tiny_speech.unigrams import Unigrams
from wavslm_tiny_speech.voices import Voice, voice

VOICES = tuple(voice(number, held_out=True) for number in range(8, 24))
"""Two of each timbre that training never has; the validation split begins with the first eight."""
ConfigT = TypeVar("ConfigT", bound=TinySuiteConfig)


class TinySuite(MadeSuite[ConfigT], Generic[ConfigT]):
    """What the suites of this plugin have in common."""

    kinds: ClassVar[tuple[str, ...]]
    """Tasks or types, each with `config.pairs` pairs."""
    about_spectra: ClassVar[tuple[str, ...]] = ()
    """Kinds which are about how something sounds: likeness of spectra is their mark to pass."""

    def __init__(self, config: ConfigT, *, cache_dir: Path = Path(".cache")) -> None:
        super().__init__(config, cache_dir=cache_dir)
        self.sample_rate_hz = config.sample_rate_hz

    @abstractmethod
    def sets(self, kind: str, studio: Studio, random: Random) -> Iterator[Sequence[Take]]:
        """Yield pairs of a kind without an end, those together that make up for each other."""

    def ingredients(self) -> dict[str, Any]:
        return {
            "pairs": self.config.pairs,
            "sample_rate_hz": self.config.sample_rate_hz,
            "seed": self.config.seed,
            "generator": generator_digest(path.name for path in sorted(Path(__file__).parent.glob("*.py"))),
        }

    def make(self, write: Callable[[MadePair], None]) -> str:
        name = self.config.registered_name()
        scores: dict[str, list[float]] = {}
        with (
            Espeak() as espeak,
            progress_bar(
                f"Synthesising {name}", total=self.config.pairs * len(self.kinds), unit="pairs"
            ) as advance,
        ):
            studio = Studio(espeak, self.config.sample_rate_hz)
            clues = clues_with(Unigrams.of_corpus(espeak, self.config.sample_rate_hz))
            for kind in self.kinds:
                only_said = ("spectra",) if kind in self.about_spectra else ()
                to_balance = {clue: tells for clue, tells in clues.items() if clue not in only_said}
                sets = self.sets(kind, studio, Random(f"{self.config.seed}/{name}/{kind}"))
                found = balanced(sets, self.config.pairs, to_balance)
                for number, (chosen, take, said) in enumerate(found):
                    write(
                        MadePair(
                            f"{kind}-{number:04d}",
                            f"{kind}-{chosen}",
                            take.right,
                            take.wrong,
                            take.split,
                            take.groups,
                            take.texts,
                        )
                    )
                    for clue, tells in clues.items():
                        told = f"{clue}, {kind}" if clue in only_said else clue
                        right = said[clue] if clue in said else tells(take)
                        scores.setdefault(told, []).append((1 + right) / 2)
                    advance(1)
        return _remark(scores)


def random_voice(random: Random) -> Voice:
    return random.choice(VOICES)


def group_of_voice(voice: Voice) -> dict[str, str]:
    return {"voice": voice.timbre}


def _remark(scores: Mapping[str, Sequence[float]]) -> str:
    """Return what clues without language score alone."""
    told = (f"{clue} {100 * sum(found) / len(found):.1f}%" for clue, found in scores.items())
    return f"Without a model, the likelier recording is told by {'; '.join(told)}."
