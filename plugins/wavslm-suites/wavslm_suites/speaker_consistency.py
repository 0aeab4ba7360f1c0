"""Suite `speaker_consistency`: speech goes on in the same voice, or in another one (as in SALMon).

Pairs come in twos, one item. Of two speakers A and B there are a first and a second half each, and each
second half is right once and wrong once, sample for sample: A1 A2 or A1 B2, B1 B2 or B1 A2. Second halves of
an item are equally long and all halves equally loud, so that nothing tells but what first and second have in
common.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import numpy as np

from wavslm_core.plugin import (
    Average,
    DataConfig,
    DataError,
    Group,
    MadePair,
    MadeSuite,
    Split,
    json_digest,
    open_split,
    progress_bar,
    spectral_distance_db,
)
from wavslm_suites.config import SPEAKER_TASKS, SpeakerConsistencyConfig
from wavslm_suites.draws import Draws, Item, Speaker, counted
from wavslm_suites.halves import Floats, Piece, background_distance_db, levelled, pieces_of
from wavslm_suites.sexes import read_sexes

SOURCES = ("draws.py", "halves.py", "speaker_consistency.py")


class SpeakerConsistency(MadeSuite[SpeakerConsistencyConfig]):
    """See `SpeakerConsistencyConfig`."""

    title: ClassVar[str] = "Speaker consistency"
    groups: ClassVar[tuple[Group, ...]] = (
        Group("task", "task", SPEAKER_TASKS),
        Group("sex", "sex", ("F", "M")),
        Group("speaker", "speaker"),
    )
    averages: ClassVar[tuple[Average, ...]] = (Average("mean", "mean of tasks", over="task"),)

    def __init__(self, config: SpeakerConsistencyConfig, *, cache_dir: Path = Path(".cache")) -> None:
        super().__init__(config, cache_dir=cache_dir)
        self.sample_rate_hz = config.sample_rate_hz
        self.alone = self.nameless = self.cut = self.pieceless = 0

    @cached_property
    def split(self) -> Split:
        corpus, split = self.config.source()
        return open_split(DataConfig(((split, corpus),)), split, cache_dir=self.cache_dir)

    @property
    def named(self) -> str:
        config = self.split.corpus.config
        path = getattr(config, "path", None)
        at = "" if path is None else f" ({path})"
        return f"split '{self.split.name}' of corpus '{config.registered_name()}'{at}"

    @cached_property
    def by_speaker(self) -> dict[str, list[int]]:
        """Speaker → utterances, of those who have two or more. Raises: DataError for fewer than two such."""
        everyone: dict[str, list[int]] = {}
        for index, utterance in enumerate(self.split.utterances):
            everyone.setdefault(utterance.speaker or "", []).append(index)
        self.nameless = len(everyone.pop("", ()))
        if not everyone:
            raise DataError(
                f"{self.named} does not tell who speaks; give a corpus that does, or, where names of files "
                "or folders tell it, `corpus: {corpus: folder, path: …, speaker_separator: …}`"
            )
        found = {name: indices for name, indices in everyone.items() if len(indices) > 1}
        self.alone = len(everyone) - len(found)
        if len(found) < 2:
            names = ", ".join(f"'{name}'" for name in sorted(everyone)[:3])
            raise DataError(
                f"{self.named} needs two speakers with two utterances or more each, and has {len(found)}; "
                f"its {sum(map(len, everyone.values()))} utterances are by {len(everyone)} speakers, such as "
                f"{names}. If these are no speakers, give `corpus` with another `speaker_separator`"
            )
        return found

    @cached_property
    def sexes(self) -> dict[str, str]:
        """Speaker → sex, as far as the table tells it. Raises: DataError."""
        if self.config.speakers is None:
            return {}
        path = Path(self.config.speakers).expanduser()
        told = read_sexes(path)
        found = {name: told[name] for name in self.by_speaker if name in told}
        if not found:
            example = f", such as '{next(iter(told))}'" if told else ""
            raise DataError(
                f"`speakers`: {path} tells the sex of {len(told)} speakers{example}, and none of them speaks "
                f"in {self.named}, as '{next(iter(self.by_speaker))}' does; names must be the same"
            )
        return found

    def ingredients(self) -> dict[str, Any]:
        who = [(index, name) for name, indices in self.by_speaker.items() for index in indices]
        sources = b"".join((Path(__file__).parent / name).read_bytes() for name in SOURCES)
        options = self.config.model_dump(
            mode="json", exclude={"name", "label", "path", "corpus", "split", "speakers", "tasks"}
        )
        return {
            **options,
            "tasks": self.config.all_tasks,
            "audio": self.split.corpus.fingerprint(self.split.name),
            "speakers": json_digest(who),
            "sexes": self.sexes,
            "generator": hashlib.sha256(sources).hexdigest()[:12],
        }

    def make(self, write: Callable[[MadePair], None]) -> str:
        random = Random(f"{self.config.seed}")
        speakers = [
            Speaker(name, self.sexes.get(name), random.sample(indices, len(indices)))
            for name, indices in sorted(self.by_speaker.items())
        ]
        self.cut = self.pieceless = 0
        told: dict[str, list[float]] = {}
        tasks = [Draws(self.config, task, speakers, self.cut_next) for task in self.config.all_tasks]
        total = self.config.pairs * len(tasks)
        with progress_bar(f"Cutting {self.config.shown_name}", total=total, unit="pairs") as advance:
            for draws in tasks:
                found = 0
                for item in islice(draws.items(), self.config.pairs // 2):
                    for pair in self._pairs(draws.task, found // 2, item):
                        write(pair)
                        for clue, credit in self._clues(pair).items():
                            told.setdefault(f"{clue}, {draws.task}", []).append(credit)
                        found += 1
                        advance(1)
                if found < self.config.pairs:
                    raise self._too_few(draws, found)
        return self._remark(speakers, tasks, told)

    def cut_next(self, speaker: Speaker) -> bool:
        """Cut one more utterance of a speaker into pieces; False when there is none."""
        if not speaker.utterances:
            return False
        index = speaker.utterances.pop()
        waveform_S = self.split.load(index, sample_rate_hz=self.sample_rate_hz).numpy()
        pieces = pieces_of(
            waveform_S, utterance=index, sample_rate_hz=self.sample_rate_hz, seconds=self.config.seconds
        )
        self.cut += 1
        self.pieceless += not pieces
        speaker.pieces += pieces
        return True

    def _pairs(self, task: str, number: int, item: Item) -> Iterator[MadePair]:
        """Yield both pairs of an item."""
        grid = round(self.config.grid_seconds * self.sample_rate_hz)
        length = min(second.samples for _, _, second in item) // grid * grid
        halves = []
        for _, first, second in item:
            # The first keeps its end, which is in a pause, and the second its beginning.
            halves += [self._load(first)[-(first.samples // grid * grid) :], self._load(second)[:length]]
        one, own, other, others = levelled(halves, sample_rate_hz=self.sample_rate_hz)
        for place, (begun, right, wrong) in enumerate(((one, own, others), (other, others, own))):
            speaker, first, second = item[place]
            yield MadePair(
                f"{task}-{2 * number + place:04d}",
                f"{task}-{number}",
                np.concatenate([begun, right]),
                np.concatenate([begun, wrong]),
                len(begun),
                {"task": task, "speaker": speaker.name} | ({"sex": speaker.sex} if speaker.sex else {}),
                (self._told(first, second), self._told(first, item[1 - place][2])),
            )

    def _clues(self, pair: MadePair) -> dict[str, float]:
        """Return what tells without a model that a half sounds like another: 1 where it is right, or 0."""
        apart = {
            "spectra": [spectral_distance_db(side, pair.split) for side in (pair.right, pair.wrong)],
            "background": [
                background_distance_db(side, pair.split, sample_rate_hz=self.sample_rate_hz)
                for side in (pair.right, pair.wrong)
            ],
        }
        return {clue: float((1 + np.sign(wrong - right)) / 2) for clue, (right, wrong) in apart.items()}

    def _load(self, piece: Piece) -> Floats:
        waveform: Floats = self.split.load_crop(
            piece.utterance, start=piece.start, samples=piece.samples, sample_rate_hz=self.sample_rate_hz
        ).numpy()
        return waveform

    def _told(self, *pieces: Piece) -> str:
        """Return where halves come from, for who looks at the index."""
        ids = [(self.split.utterances[piece.utterance].id, piece.start) for piece in pieces]
        return " + ".join(f"{name} at {start / self.sample_rate_hz:.2f} s" for name, start in ids)

    def _remark(
        self, speakers: Sequence[Speaker], tasks: Sequence[Draws], told: Mapping[str, Sequence[float]]
    ) -> str:
        pieces = sum(len(speaker.pieces) for speaker in speakers)
        most = max(max(draws.seconds.values()) for draws in tasks)
        unknown = sum(speaker.sex is None for speaker in speakers) if self.sexes else 0
        lonely = {speaker.name for draws in tasks for speaker in speakers if not draws.others(speaker)}
        seen = {
            "speakers with a single utterance": self.alone,
            "utterances of nobody known": self.nameless,
            "speakers of unknown sex": unknown,
            "speakers left out of a task, since nobody fits them": len(lonely),
            "utterances too short, or without a pause to cut in": self.pieceless,
        }
        noted = "".join(f" {what.capitalize()}: {number}." for what, number in seen.items() if number)
        marks = "; ".join(f"{clue} {100 * np.mean(found):.1f}%" for clue, found in sorted(told.items()))
        whose = "another" if self.config.second == "other_utterance" else "the same"
        return (
            f"Cut from {pieces} pieces of {self.cut} utterances by {counted(speakers)}; second halves are of "
            f"{whose} utterance, and one is that of at most {most} items of a task.{noted} Without a model, "
            f"the likelier recording is told by {marks}."
        )

    def _too_few(self, draws: Draws, pairs: int) -> DataError:
        config, speakers = self.config, draws.speakers
        shortest, longest = config.seconds
        what = f"only {pairs} of {config.pairs} pairs" if pairs else "no pair"
        usable = sum(bool(draws.others(speaker)) for speaker in speakers)
        pieces = sum(len(speaker.pieces) for speaker in speakers)
        less = f"set `pairs` to {pairs}" if pairs else "leave it out of `tasks`"
        return DataError(
            f"{what} of task {draws.task} can be made of {self.named}: {usable} of {counted(speakers)} have "
            f"somebody to switch to, and {self.cut} of their utterances gave {pieces} pieces of {shortest:g} "
            f"to {longest:g} s that begin in a pause; {less}, raise `uses`, which is {config.uses}, change "
            "`seconds`, or take more speech"
        )
