"""Evaluations side by side: every number of each with its interval, and whether two of them really differ.

What others published stands beside, marked as such: it was scored by another rule, so that it neither
competes for the best nor is tested.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NotRequired

from pydantic import FiniteFloat
from typing_extensions import TypedDict

from wavslm_core.errors import DataError
from wavslm_core.evaluation.accuracy import PairedTest, item_credits, mcnemar
from wavslm_core.evaluation.config import LikelihoodRules
from wavslm_core.evaluation.line_folder import read_whole_lines
from wavslm_core.evaluation.pair_scores import PairScore
from wavslm_core.evaluation.suite_evaluation import PAIRS_FILE, RESULTS_FILE
from wavslm_core.evaluation.suite_tables import PARTIAL, TITLES, CountName, credits_of
from wavslm_core.machine.json_files import read_json
from wavslm_core.parts.configs import Published, SuiteConfig
from wavslm_core.parts.plugins import load_registry

STAGE = "score_suites"


class Number(TypedDict):
    """An accuracy in results, in percent; None where there is too little to tell."""

    mean: FiniteFloat | None
    low: FiniteFloat | None
    high: FiniteFloat | None
    count: int
    pairs: int


class NumberResults(TypedDict):
    """An average, or a value of a group, by every score that there is."""

    title: str
    without: tuple[str, str] | None
    mean: NotRequired[Number]
    sum: NotRequired[Number]
    localised: NotRequired[Number]
    normalised: NotRequired[Number]
    by_item: NotRequired[Number]


class SuiteResults(TypedDict):
    """What is compared of a suite."""

    suite: str
    named: str
    described: str
    partial: bool
    digest: str
    numbers: dict[str, NumberResults]


class RulesResults(TypedDict):
    text: str
    ties: Literal["half", "strict"]


class EvaluationResults(TypedDict):
    """What is read of `results.json`."""

    rules: RulesResults
    suites: dict[str, SuiteResults]


@dataclass(frozen=True)
class Evaluation:
    """What `wavslm evaluate`, or the stage `score_suites`, left."""

    name: str
    folder: Path
    """Holds `pairs.jsonl`."""
    results: EvaluationResults

    @classmethod
    def read(cls, path: Path) -> Evaluation:
        """Read a folder of an evaluation, or that of a run. Raises: DataError when it holds none."""
        places = [path / RESULTS_FILE, *sorted((path / "results").glob(f"{STAGE}*.json"), reverse=True)]
        for place in places:
            try:
                results = read_json(place, EvaluationResults, remedy="Evaluate again.")
            except FileNotFoundError:
                continue
            return cls(path.name, path if place.parent == path else path / place.stem, results)
        raise DataError(
            f"{path} holds no evaluation; give what `wavslm evaluate --out` wrote, or a run with the stage "
            f"{STAGE}"
        )

    def number(self, suite: str, key: str, score: CountName) -> Number | None:
        found = self.results["suites"].get(suite)
        number = found["numbers"].get(key) if found is not None else None
        return number.get(score) if number is not None else None

    def pairs(self) -> list[PairScore]:
        return list(read_whole_lines(self.folder / PAIRS_FILE, PairScore))


@dataclass(frozen=True)
class Row:
    """A number that some evaluation has."""

    suite: str
    """Label of its suite."""
    key: str
    title: str
    published: Mapping[str, Published]
    """Model → what was published for it."""


@dataclass(frozen=True)
class SuiteComparison:
    """Evaluations, and the rows of their table."""

    evaluations: tuple[Evaluation, ...]
    score: CountName
    rows: tuple[Row, ...]
    tests: Mapping[tuple[str, str, str], PairedTest]
    """(suite, key, evaluation) → it against the first one, where both scored the same pairs."""
    notes: tuple[str, ...]

    @property
    def models(self) -> list[str]:
        """Those that something was published of."""
        return list(dict.fromkeys(model for row in self.rows for model in row.published))

    def best(self, row: Row) -> list[str]:
        """Return the evaluations with the highest mean, unless all have it."""
        means = {
            of.name: number["mean"] for of, number in self.cells(row) if number and number["mean"] is not None
        }
        highest = max(means.values(), default=math.nan)
        best = [name for name, mean in means.items() if mean == highest]
        return best if len(best) < len(means) else []

    def difference(self, row: Row, other: Evaluation) -> float | None:
        """Return by how many points another evaluation is above the first."""
        numbers = [of.number(row.suite, row.key, self.score) for of in (other, self.evaluations[0])]
        means = [number["mean"] for number in numbers if number is not None and number["mean"] is not None]
        return means[0] - means[1] if len(means) == 2 else None

    def cells(self, row: Row) -> list[tuple[Evaluation, Number | None]]:
        return [(of, of.number(row.suite, row.key, self.score)) for of in self.evaluations]


def compare_evaluations(
    paths: Sequence[Path], *, score: CountName = "mean", everything: bool = False
) -> SuiteComparison:
    """Read evaluations and compare them by a score; `everything`: also voices, bands, types and the like.

    Raises: DataError for a folder without one, and two of one name.
    """
    evaluations = _with_own_names([Evaluation.read(path) for path in paths])
    names = [of.name for of in evaluations]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{', '.join(twice)} is given twice; give each evaluation once")
    rows = tuple(
        row for row in _rows(evaluations) if everything or "=" not in row.key or row.key.startswith("task=")
    )
    pairs = {of.name: of.pairs() for of in evaluations} if len(evaluations) > 1 else {}
    tests = {}
    for row in rows:
        first, *others = evaluations
        for other in others:
            if _same_data(first, other, row.suite):
                credits = [_item_credits(of, pairs[of.name], row, score) for of in (other, first)]
                if credits[0] and credits[1]:
                    tests[row.suite, row.key, other.name] = mcnemar(*credits)
    return SuiteComparison(evaluations, score, rows, tests, _notes(evaluations, rows, score))


def _with_own_names(evaluations: Sequence[Evaluation]) -> tuple[Evaluation, ...]:
    names = [of.name for of in evaluations]
    return tuple(
        of
        if names.count(of.name) == 1
        else Evaluation(f"{of.folder.parent.name}/{of.name}", of.folder, of.results)
        for of in evaluations
    )


def _rows(evaluations: Sequence[Evaluation]) -> list[Row]:
    registry = load_registry()
    known: dict[str, tuple[Published, ...]] = {
        config.registered_name(): config.published
        for config in registry.config_classes("suite")
        if issubclass(config, SuiteConfig)
    }
    rows: dict[tuple[str, str], Row] = {}
    names: dict[str, str] = {}
    for of in evaluations:
        for label, found in of.results["suites"].items():
            # One that is partial anywhere is called so.
            names[label] = max(names.get(label, ""), found["named"], key=len)
    for of in evaluations:
        for label, found in of.results["suites"].items():
            published = known.get(found["suite"], ())
            for key, number in found["numbers"].items():
                own = {one.model: one for one in published if one.number == key}
                rows.setdefault((label, key), Row(label, key, f"{names[label]}: {number['title']}", own))
    return list(rows.values())


def _same_data(one: Evaluation, other: Evaluation, suite: str) -> bool:
    digests = [of.results["suites"][suite]["digest"] for of in (one, other) if suite in of.results["suites"]]
    return len(digests) == 2 and digests[0] == digests[1]


def _item_credits(of: Evaluation, pairs: Sequence[PairScore], row: Row, score: CountName) -> dict[str, float]:
    """Return item → credit of the pairs that a number is over."""
    group, separator, value = row.key.partition("=")
    number = of.results["suites"][row.suite]["numbers"].get(row.key)
    if number is None or number.get(score) is None:
        return {}
    without = number["without"]

    def counts(found: PairScore) -> bool:
        if found.suite != row.suite or (separator and found.groups.get(group) != value):
            return False
        return not without or found.groups.get(without[0]) != without[1]

    rules = LikelihoodRules(ties=of.results["rules"]["ties"])
    counted = credits_of([found for found in pairs if counts(found)], score, rules)
    return item_credits([found.item for found, _ in counted], [credit for _, credit in counted])


def _notes(evaluations: Sequence[Evaluation], rows: Sequence[Row], score: CountName) -> tuple[str, ...]:
    notes = [f"{TITLES[score].capitalize()}, in %, with 95% intervals; the best of those compared in bold."]
    by_rules: dict[str, list[str]] = {}
    for of in evaluations:
        by_rules.setdefault(of.results["rules"]["text"], []).append(of.name)
    notes += [
        text if len(by_rules) == 1 else f"{', '.join(names)}: {text}" for text, names in by_rules.items()
    ]
    for label in dict.fromkeys(row.suite for row in rows):
        there = [of for of in evaluations if label in of.results["suites"]]
        found = [of.results["suites"][label] for of in there]
        partial = [
            f"{of.name} {one['described']}" for of, one in zip(there, found, strict=True) if one["partial"]
        ]
        if partial:
            notes.append(f"{PARTIAL}: {label}: {'; '.join(partial)}.")
        if len({one["digest"] for one in found}) > 1:
            notes.append(f"{label}: not the same data in all of them, so that they are not tested.")
    published = {one.model: one for row in rows for one in row.published.values()}
    notes += [f"{model}, published: {one.rule} ({one.source})." for model, one in published.items()]
    return tuple(notes)
