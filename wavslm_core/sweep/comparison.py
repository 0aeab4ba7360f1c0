"""Runs side by side: numbers picked from their results, summed up over seeds, the best one marked.

Means are over a handful of repetitions, such as seeds, with Student's t interval.
"""

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wavslm_core.errors import DataError
from wavslm_core.machine.json_files import read_object
from wavslm_core.parts.estimates import Estimate
from wavslm_core.recipe.sweep_block import Column, SweepMetric
from wavslm_core.sweep.trial_state import Row

_T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""97.5% quantiles of Student's t with 1 to 30 degrees of freedom."""


def repeated(values: Sequence[float]) -> Estimate:
    """Return the mean of repetitions and half its 95% interval; NaN where fewer than two are known."""
    known = [value for value in values if math.isfinite(value)]
    count = len(known)
    if count == 0:
        return Estimate(math.nan, math.nan, 0)
    mean = math.fsum(known) / count
    if count == 1:
        return Estimate(mean, math.nan, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (count - 1))
    return Estimate(mean, t_quantile(count - 1) * deviation / math.sqrt(count), count)


def paired_difference(values: Mapping[int, float], reference: Mapping[int, float]) -> Estimate:
    """Return by how much values exceed the reference, seed by seed: what both owe to a seed cancels out."""
    return repeated([values[seed] - reference[seed] for seed in values if seed in reference])


def t_quantile(degrees: int) -> float:
    """Return the 97.5% quantile of Student's t, to 0.001."""
    if degrees <= len(_T_975):
        return _T_975[degrees - 1]
    # The first terms of the expansion of t in powers of 1/degrees around the normal quantile.
    normal = 1.959964
    first = (normal**3 + normal) / 4
    second = (5 * normal**5 + 16 * normal**3 + 3 * normal) / 96
    return normal + first / degrees + second / degrees**2


logger = logging.getLogger(__name__)

Better = Literal["higher", "lower"]

DEFAULT_COLUMNS = (
    "evaluate.language_model.bits_per_token",
    "evaluate.codec.metrics.*",
    "evaluate.codec.codebook.valid.used_fraction",
    "evaluate.codec.codebook.valid.entropy_bits",
    "evaluate.continuations.metrics.*",
    "evaluate.chunk_ahead.metrics.*",
    "evaluate.continuations.times_real_time",
    "train_lm.parameters",
    "stages.train_codec.seconds",
    "stages.train_lm.seconds",
)
KNOWN: dict[str, tuple[str, Better | None]] = {
    "bits_per_token": ("bits per token", "lower"),
    "bits_per_second": ("bits per second of speech", None),
    "used_fraction": ("share of codes used", None),
    "entropy_bits": ("code entropy (bits)", None),
    "times_real_time": ("times real time", "higher"),
    "tokens_per_s": ("tokens per second", "higher"),
}
"""Last key of a path → heading and which is better, for results that do not say so themselves."""
WHERE = {"continuations": "continuations", "chunk_ahead": "one chunk ahead"}
"""Key in a path → what to add to headings that other places have too."""


@dataclass(frozen=True)
class Score:
    """One number of one run."""

    value: float
    interval: float | None
    """Half of its 95% interval over utterances, where the results tell it."""
    title: str
    better: Better | None


@dataclass(frozen=True)
class Variant:
    """Runs that differ in the seed only."""

    name: str
    settings: Mapping[str, Any]
    cells: dict[str, Estimate] = field(default_factory=dict)
    """Path → mean and half its 95% interval: over seeds, or of a single run over utterances."""
    by_seed: dict[str, dict[int, float]] = field(default_factory=dict)
    """Path → seed → value."""
    differences: dict[str, Estimate] = field(default_factory=dict)
    """Path → by how much this exceeds the first variant, paired by seed."""


@dataclass(frozen=True)
class Heading:
    """A column that some run has a number for."""

    path: str
    title: str
    better: Better | None
    best: str | None
    """The variant with the best mean."""


@dataclass(frozen=True)
class Comparison:
    """All runs of a sweep."""

    results: tuple[Row, ...]
    variants: tuple[Variant, ...]
    columns: tuple[Heading, ...]
    seeds: int
    """How many seeds the intervals are over; 1: over utterances instead."""
    constant: tuple[str, ...] = ()
    """Titles of default columns that were left out, being the same in all runs."""
    metric: SweepMetric | None = None
    """What ranks the runs."""

    @property
    def ranked(self) -> tuple[Row, ...]:
        """The runs from best to worst."""
        return rank(self.results, self.metric)


def rank(rows: Sequence[Row], metric: SweepMetric | None) -> tuple[Row, ...]:
    """Return trials from best to worst: finished ones by the metric, then those that were stopped for being
    behind, then others, of each kind those without a number last; in the order given where nothing tells
    them apart.
    """
    sign = -1.0 if metric is not None and not metric.lower_is_better else 1.0

    def place(row: Row) -> tuple[int, bool, float]:
        state = {"finished": 0, "pruned": 1}.get(row.state, 2)
        if metric is None or row.value is None:
            return state, True, 0.0
        return state, False, sign * row.value

    return tuple(sorted(rows, key=place))


def compare(
    results: Sequence[Row], columns: Sequence[Column], metric: SweepMetric | None = None
) -> Comparison:
    """Pick the columns' numbers from the folders of finished runs; an empty list means the default ones."""
    left = [_documents(result.folder) if result.state == "finished" else {} for result in results]
    wanted = list(columns) or _default_columns(left)
    found: list[dict[str, Score]] = []
    titles: dict[str, Score] = {}
    for documents in left:
        scores = {path: score for column in wanted for path, score in _picked(documents, column)}
        found.append(scores)
        for path, score in scores.items():
            titles.setdefault(path, score)
    order = [path for column in wanted for path in titles if _matches(path, column.path)]
    constant = [path for path in order if not columns and len(results) > 1 and _is_constant(found, path)]
    order = [path for path in dict.fromkeys(order) if path not in constant]
    seeds = len({result.seed for result in results})
    variants = [
        _variant(name, results, found, order, seeds) for name in dict.fromkeys(r.variant for r in results)
    ]
    for variant in variants[1:] if seeds > 1 else ():
        for path in order:
            if path in variant.cells and path in variants[0].cells:
                variant.differences[path] = paired_difference(
                    variant.by_seed[path], variants[0].by_seed[path]
                )
    return Comparison(
        results=tuple(results),
        variants=tuple(variants),
        columns=tuple(_heading(path, titles[path], variants) for path in order),
        seeds=seeds,
        constant=tuple(dict.fromkeys(titles[path].title for path in constant)),
        metric=metric,
    )


def _default_columns(left: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return what is compared when nobody says what; without a stage that evaluates, how training went."""
    columns = [*(Column(path=path) for path in DEFAULT_COLUMNS), *_suite_columns(left)]
    if any("evaluate" in documents for documents in left):
        return columns
    trained = dict.fromkeys(
        stage
        for documents in left
        for stage, results in documents.items()
        if isinstance(results, Mapping) and isinstance(results.get("valid"), Mapping)
    )
    losses = [
        Column(path=f"{stage}.valid.loss", title=f"validation loss of {stage}", better="lower")
        for stage in trained
    ]
    return [*losses, *columns]


def _suite_columns(left: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return the headlines of all suites that were scored: per token, and given what was before."""
    headlines = dict.fromkeys(
        f"{stage}.suites.{label}.numbers.{suite['headline']}"
        for documents in left
        for stage, results in documents.items()
        if isinstance(results, Mapping) and isinstance(results.get("suites"), Mapping)
        for label, suite in results["suites"].items()
        if isinstance(suite, Mapping) and "headline" in suite
    )
    return [
        Column(path=f"{path}.{score}") for path in headlines for score in ("mean", "normalised", "by_item")
    ]


def _documents(folder: Path) -> dict[str, Any]:
    """Return what a run left, by name: every file of `results/`, and `stages`; without damaged ones."""
    documents: dict[str, Any] = {}
    for path in (*sorted((folder / "results").glob("[!.]*.json")), folder / "stages.json"):
        try:
            documents[path.stem] = read_object(path, remedy="Its numbers are left out of the comparison.")
        except FileNotFoundError:
            continue
        except DataError as error:
            logger.warning("%s", error)
    return documents


def _picked(documents: Mapping[str, Any], column: Column) -> Iterator[tuple[str, Score]]:
    for path, value, parent in _walk(documents, column.path.split("."), (), {}):
        key = path[-1]
        title, better = KNOWN.get(key, (" ".join(path[-2:]).replace("_", " "), None))
        interval = None
        if isinstance(value, Mapping):
            title, better, interval = value.get("title", title), value.get("better"), value.get("interval")
            if value.get("unit"):
                title = f"{title} ({value['unit']})"
            value = value.get("mean")
        elif key == "bits_per_token":
            interval = parent.get("interval")
        title += "".join(f", {words}" for key, words in WHERE.items() if key in path)
        if re.search(r"_\d+$", path[0]):
            # A second stage of its kind has the same numbers to tell.
            title += f", {path[0]}"
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield (
                ".".join(path),
                Score(float(value), interval, column.title or title, column.better or better),
            )


def _walk(
    value: Any, keys: Sequence[str], path: tuple[str, ...], parent: Mapping[str, Any]
) -> Iterator[tuple[tuple[str, ...], Any, Mapping[str, Any]]]:
    """Yield (path, value, what it stands in) of everything that the keys lead to."""
    if not keys:
        yield path, value, parent
    elif isinstance(value, Mapping):
        for key in value if keys[0] == "*" else [keys[0]]:
            if key in value:
                yield from _walk(value[key], keys[1:], (*path, key), value)
    elif isinstance(value, list) and keys[0].isdigit() and int(keys[0]) < len(value):
        yield from _walk(value[int(keys[0])], keys[1:], (*path, keys[0]), {})


def _matches(path: str, pattern: str) -> bool:
    pieces, wanted = path.split("."), pattern.split(".")
    return len(pieces) == len(wanted) and all(w in ("*", p) for p, w in zip(pieces, wanted, strict=True))


def _is_constant(found: Sequence[Mapping[str, Score]], path: str) -> bool:
    values = [scores[path].value for scores in found if path in scores]
    return len(values) > 1 and len(set(values)) == 1


def _variant(
    name: str, results: Sequence[Row], found: Sequence[Mapping[str, Score]], paths: Sequence[str], seeds: int
) -> Variant:
    members = [(r, scores) for r, scores in zip(results, found, strict=True) if r.variant == name]
    variant = Variant(name, members[0][0].settings)
    for path in paths:
        scores = {result.seed or 0: scores[path] for result, scores in members if path in scores}
        if not scores:
            continue
        variant.by_seed[path] = {seed: score.value for seed, score in scores.items()}
        if seeds > 1:
            variant.cells[path] = repeated(list(variant.by_seed[path].values()))
        else:
            (score,) = scores.values()
            interval = math.nan if score.interval is None else score.interval
            variant.cells[path] = Estimate(score.value, interval, 1)
    return variant


def _heading(path: str, score: Score, variants: Sequence[Variant]) -> Heading:
    means = {variant.name: variant.cells[path].mean for variant in variants if path in variant.cells}
    best = None
    if score.better is not None and len(means) > 1:
        best = (max if score.better == "higher" else min)(means, key=lambda name: means[name])
    return Heading(path, score.title, score.better, best)
