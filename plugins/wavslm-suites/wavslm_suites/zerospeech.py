"""sWUGGY and sBLIMP (ZeroSpeech 2021), in ZeroSpeech's layout, SlamKit's, or as columns of a hub dataset.

ZeroSpeech's scorer reads gold.csv by position, pairs words by (voice, id) and sentences by the order of
their rows: so do we, and refuse what it would pair wrongly.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from wavslm_core.plugin import Average, DataError, Finding, Group, Pair
from wavslm_suites.config import SblimpConfig, SwuggyConfig
from wavslm_suites.copies import CopiedSuite, SuiteCopy, audio_by_stem, is_correct, read_csv
from wavslm_suites.hub_columns import HubColumns
from wavslm_suites.official import BANDS, OOV, band_of, lexical_tables, submission_lines, syntactic_tables
from wavslm_suites.slamkit import slamkit_copy

LEXICAL = ("id", "filename", "voice", "frequency", "word", "phones", "length", "correct")
SYNTACTIC = ("id", "filename", "voice", "type", "subtype", "transcription", "correct")
SBLIMP_DEV_PAIRS = 25_200
_IN_VOCABULARY = "in vocabulary"


@dataclass(frozen=True)
class GoldRow:
    """A recording, as gold.csv has it."""

    line: int
    cells: Mapping[str, str]
    correct: bool

    @property
    def name(self) -> str:
        return self.cells["filename"]


def read_gold(
    folder: Path, columns: Sequence[str] = (), *, needed: Sequence[str] = ()
) -> tuple[list[GoldRow], SuiteCopy]:
    """Return the rows of a folder's gold.csv, and a copy with their recordings but no pairs yet.

    Raises: DataError when it cannot be read, or names a recording twice.
    """
    gold = folder / "gold.csv"
    if not gold.is_file():
        raise DataError(
            f"{gold} does not exist, and without it nobody knows which recordings are right; copy it there "
            "(of ZeroSpeech's sets, only dev has a public one)"
        )
    cells_of = read_csv(gold, columns, needed=needed)
    rows = [GoldRow(line, cells, is_correct(gold, line, cells)) for line, cells in cells_of]
    twice = [name for name, count in Counter(row.name for row in rows).items() if count > 1]
    if twice:
        raise DataError(f"{gold} has {', '.join(twice[:5])} in several rows; a recording has one. Mend it")
    copy = SuiteCopy()
    files = audio_by_stem(folder, copy.findings)
    for row in rows:
        if row.name in files:
            copy.sources[row.name] = files[row.name]
        else:
            copy.findings.append(Finding("missing", f"{folder / row.name}.wav ({gold.name}:{row.line})"))
    named = {row.name for row in rows}
    copy.findings += [
        Finding("wrongly named", f"{path} is in no row of {gold.name}")
        for stem, path in files.items()
        if stem not in named
    ]
    return rows, copy


class _ZeroSpeech:
    """What both have in common: which layout is there."""

    def found(self, root: Path, *, kind: str, part: str, slamkit: Sequence[str], splitter: str) -> SuiteCopy:
        """Return a copy in one of the other layouts. Raises: DataError."""
        if any((root / folder).is_dir() for folder in slamkit):
            return slamkit_copy(root, slamkit, splitter=splitter)
        tables = HubColumns.find(root)
        if tables is not None:
            return tables.pairs()
        raise DataError(
            f"{root} holds neither {kind}/{part} (ZeroSpeech) nor {' or '.join(slamkit)} (SlamKit) nor "
            "Parquet files (the hub); set `path` to the folder that does"
        )


class Swuggy(CopiedSuite[SwuggyConfig], _ZeroSpeech):
    """See `SwuggyConfig`."""

    title: ClassVar[str] = "sWUGGY"
    groups: ClassVar[tuple[Group, ...]] = (
        Group("frequency", "frequency", (*BANDS, _IN_VOCABULARY)),
        Group("length", "length"),
        Group("voice", "voice"),
    )
    averages: ClassVar[tuple[Average, ...]] = (
        Average("all", "all"),
        Average("in_vocab", "in vocabulary", without=("frequency", OOV)),
    )

    @property
    def folder(self) -> Path:
        return self.root / "lexical" / self.config.part

    def look(self) -> SuiteCopy:
        if self.folder.is_dir():
            return self._gold()
        folders = ("swuggy_inter", "swuggy_oov")
        copy = self.found(self.root, kind="lexical", part=self.config.part, slamkit=folders, splitter="_")
        bands = {"swuggy_inter": _IN_VOCABULARY, "swuggy_oov": OOV}
        for place, pair in enumerate(copy.pairs):
            folder = pair.positive.partition("/")[0]
            if folder in bands:
                groups = {**pair.groups, "frequency": bands[folder]}
                copy.pairs[place] = Pair(pair.id, pair.positive, pair.negative, item=pair.item, groups=groups)
        return copy

    def _gold(self) -> SuiteCopy:
        rows, copy = read_gold(self.folder, LEXICAL)
        sides: dict[tuple[str, str], dict[bool, list[GoldRow]]] = defaultdict(lambda: {True: [], False: []})
        for row in rows:
            sides[row.cells["voice"], row.cells["id"]][row.correct].append(row)
        no_spelling = not any(row.cells["word"] for row in rows if not row.correct)
        for (voice, item), both in sides.items():
            counts = len(both[True]), len(both[False])
            if counts == (1, 1):
                (word,), (other,) = both[True], both[False]
                if word.name in copy.sources and other.name in copy.sources:
                    copy.pairs.append(self._pair(word, other, "phones" if no_spelling else "word"))
                continue
            who = f"id {item} of voice {voice} in {self.folder}/gold.csv"
            what = f"{who} has {counts[0]} words and {counts[1]} non-words"
            copy.findings.append(Finding("duplicate" if max(counts) > 1 else "unpaired", what))
        return copy

    def _pair(self, word: GoldRow, other: GoldRow, spelling: str) -> Pair:
        cells = word.cells
        groups = {"voice": cells["voice"], "length": cells["length"]}
        if cells["frequency"]:
            groups["frequency"] = band_of(self._frequency(word))
        return Pair(
            word.name,
            word.name,
            other.name,
            item=cells["id"],
            groups=groups,
            texts=(cells[spelling], other.cells[spelling]),
        )

    def _frequency(self, word: GoldRow) -> int:
        text = word.cells["frequency"]
        try:
            return int(text)
        except ValueError:
            raise DataError(
                f"{self.folder}/gold.csv, line {word.line}: `frequency` is '{text}', a whole number is needed"
            ) from None

    def submission(self, scores: Mapping[str, float]) -> Mapping[str, str]:
        if not self.folder.is_dir():
            return {}
        return {f"lexical/{self.config.part}.txt": submission_lines(scores)}

    def official(self, credits: Sequence[tuple[Pair, float]]) -> Mapping[str, str]:
        return lexical_tables(credits, self.config.part) if self.folder.is_dir() else {}


class Sblimp(CopiedSuite[SblimpConfig], _ZeroSpeech):
    """See `SblimpConfig`."""

    title: ClassVar[str] = "sBLIMP"
    groups: ClassVar[tuple[Group, ...]] = (
        Group("type", "type"),
        Group("subtype", "subtype"),
        Group("voice", "voice"),
    )
    averages: ClassVar[tuple[Average, ...]] = (
        Average("pairs", "over pairs"),
        Average("types", "over types", over="type"),
    )

    @property
    def folder(self) -> Path:
        return self.root / "syntactic" / self.config.part

    def look(self) -> SuiteCopy:
        if self.folder.is_dir():
            return self._gold()
        return self.found(
            self.root, kind="syntactic", part=self.config.part, slamkit=("sblimp",), splitter="+"
        )

    def _gold(self) -> SuiteCopy:
        rows, copy = read_gold(self.folder, SYNTACTIC)
        good, bad = ([row for row in rows if row.correct is correct] for correct in (True, False))
        gold = self.folder / "gold.csv"
        if len(good) != len(bad):
            raise DataError(
                f"{gold} has {len(good)} correct rows and {len(bad)} incorrect ones, which are paired by "
                "their order; copy it again"
            )
        for right, wrong in zip(good, bad, strict=True):
            differing = [
                key for key in ("type", "subtype", "id", "voice") if right.cells[key] != wrong.cells[key]
            ]
            if differing:
                raise DataError(
                    f"{gold}: rows are paired by their order, but lines {right.line} and {wrong.line} have "
                    f"another {', '.join(differing)}; copy it again, unsorted"
                )
            if right.name in copy.sources and wrong.name in copy.sources:
                copy.pairs.append(_sentences(right, wrong))
        if self.config.part == "dev" and len(good) != SBLIMP_DEV_PAIRS:
            copy.remark = (
                f"Its gold.csv lists {len(good):,} pairs, the published dev set has {SBLIMP_DEV_PAIRS:,}."
            )
        return copy

    def submission(self, scores: Mapping[str, float]) -> Mapping[str, str]:
        if not self.folder.is_dir():
            return {}
        return {f"syntactic/{self.config.part}.txt": submission_lines(scores)}

    def official(self, credits: Sequence[tuple[Pair, float]]) -> Mapping[str, str]:
        return syntactic_tables(credits, self.config.part) if self.folder.is_dir() else {}


def _sentences(right: GoldRow, wrong: GoldRow) -> Pair:
    cells = right.cells
    return Pair(
        right.name,
        right.name,
        wrong.name,
        item="/".join((cells["type"], cells["subtype"], cells["id"])),
        groups={key: cells[key] for key in ("type", "subtype", "voice")},
        texts=(cells["transcription"], wrong.cells["transcription"]),
    )
