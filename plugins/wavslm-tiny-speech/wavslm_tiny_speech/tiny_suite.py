"""A suite that is spoken where it is asked for, the first time: pairs in a cache folder, as WAVs."""

from __future__ import annotations

import wave
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import ClassVar, Generic, TypeVar

from pydantic import NonNegativeInt, PositiveInt

from wavslm_core.plugin import (
    AudioSource,
    Pair,
    PairList,
    Suite,
    json_digest,
    parse_json,
    progress_bar,
    read_regular,
    size_of_regular,
    write_json,
)
from wavslm_tiny_speech.balance import balanced, clues_with
from wavslm_tiny_speech.cache import generator_digest, kept
from wavslm_tiny_speech.config import TinySuiteConfig
from wavslm_tiny_speech.espeak import Espeak
from wavslm_tiny_speech.takes import Samples, Studio, Take
from wavslm_tiny_speech.unigrams import Unigrams
from wavslm_tiny_speech.voices import Voice, voice

VOICES = tuple(voice(number, held_out=True) for number in range(8, 24))
"""Two of each timbre that training never has; the validation split begins with the first eight."""
INDEX_FILE = "index.json"
MOST_BYTES = 1 << 28
"""Of the index: about 400 a pair."""
HEADER_BYTES = 44
"""Of a WAV."""
ConfigT = TypeVar("ConfigT", bound=TinySuiteConfig)


class TinySuite(Suite[ConfigT], Generic[ConfigT]):
    """What the suites of this plugin have in common."""

    kinds: ClassVar[tuple[str, ...]]
    """Tasks or types, each with `config.pairs` pairs."""
    about_spectra: ClassVar[tuple[str, ...]] = ()
    """Kinds which are about how something sounds: likeness of spectra is their mark to pass."""

    @abstractmethod
    def sets(self, kind: str, studio: Studio, random: Random) -> Iterator[Sequence[Take]]:
        """Yield pairs of a kind without an end, those together that make up for each other."""

    def read(self) -> PairList:
        wanted = {
            "pairs": self.config.pairs,
            "sample_rate_hz": self.config.sample_rate_hz,
            "seed": self.config.seed,
            "generator": generator_digest(path.name for path in sorted(Path(__file__).parent.glob("*.py"))),
        }
        self.folder = self.cache_dir / f"{self.config.registered_name()}-{json_digest(wanted)}"
        index = kept(self.folder, _opened, self._make)
        pairs = [
            Pair(
                line.id,
                *_files(line.id),
                item=line.item,
                groups=line.groups,
                split_s=(line.split / self.config.sample_rate_hz, line.split / self.config.sample_rate_hz),
                texts=line.texts,
            )
            for line in index.lines
        ]
        return PairList(pairs, remark=index.remark)

    def source(self, name: str) -> AudioSource:
        return self.folder / name

    def _make(self, folder: Path) -> None:
        name = self.config.registered_name()
        lines: list[_Line] = []
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
                    line = _Line(
                        f"{kind}-{number:04d}",
                        f"{kind}-{chosen}",
                        take.groups,
                        take.split,
                        (len(take.right), len(take.wrong)),
                        take.texts,
                    )
                    for file, samples in zip(_files(line.id), (take.right, take.wrong), strict=True):
                        _write(folder / file, samples, self.config.sample_rate_hz)
                    for clue, tells in clues.items():
                        told = f"{clue}, {kind}" if clue in only_said else clue
                        right = said[clue] if clue in said else tells(take)
                        scores.setdefault(told, []).append((1 + right) / 2)
                    lines.append(line)
                    advance(1)
        write_json(folder / INDEX_FILE, asdict(_Index(_remark(scores), lines)))


@dataclass(frozen=True)
class _Line:
    """A pair, as the index has it; samples are counted."""

    id: str
    item: str
    groups: Mapping[str, str]
    split: NonNegativeInt
    samples: tuple[PositiveInt, PositiveInt]
    texts: tuple[str, str]


@dataclass(frozen=True)
class _Index:
    """What `index.json` holds."""

    remark: str
    lines: list[_Line]


def random_voice(random: Random) -> Voice:
    return random.choice(VOICES)


def group_of_voice(voice: Voice) -> dict[str, str]:
    return {"voice": voice.timbre}


def _files(pair: str) -> tuple[str, str]:
    return f"{pair}-right.wav", f"{pair}-wrong.wav"


def _write(file: Path, samples: Samples, sample_rate_hz: int) -> None:
    with wave.open(str(file), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(sample_rate_hz)
        stream.writeframes(samples.astype("<i2").tobytes())


def _opened(folder: Path) -> _Index | None:
    """Return what a folder holds, or None when it is absent or damaged."""
    try:
        index = parse_json(read_regular(folder / INDEX_FILE, most_bytes=MOST_BYTES), _Index)
        whole = all(
            size_of_regular(folder / file) == HEADER_BYTES + 2 * samples
            for line in index.lines
            for file, samples in zip(_files(line.id), line.samples, strict=True)
        )
    except (OSError, ValueError):
        return None
    return index if whole else None


def _remark(scores: Mapping[str, Sequence[float]]) -> str:
    """Return what clues without language score alone."""
    told = (f"{clue} {100 * sum(found) / len(found):.1f}%" for clue, found in scores.items())
    return f"Without a model, the likelier recording is told by {'; '.join(told)}."
