"""What scored pairs come to: every number of a suite as JSON values, and tables that state their rules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from wavslm_core.data.suites import Average, Pair
from wavslm_core.evaluation.accuracy import (
    FEWEST_ITEMS,
    RESAMPLES,
    SEED,
    Accuracy,
    accuracy,
    credit,
    macro_accuracy,
)
from wavslm_core.evaluation.config import LikelihoodRules
from wavslm_core.evaluation.pair_data import CheckedSuite
from wavslm_core.evaluation.pair_scores import SCORES, PairScore, ScoreName
from wavslm_core.machine.terminal import markdown_table
from wavslm_core.model.prompts import chunk_in_words
from wavslm_core.model.speech_lm import SpeechLM

TITLES: dict[ScoreName, str] = {
    "mean": "mean per token",
    "sum": "sum",
    "localised": "localised",
    "normalised": "normalised",
}
MOST_FINDINGS = 100
"""Of a suite, in results."""
PARTIAL = "PARTIAL"
SUBMITTED_DIGITS = 12


def rules_in_words(speech_lm: SpeechLM, rules: LikelihoodRules) -> str:
    """Return how pairs are scored and counted, for the caption of every table."""
    chunk = speech_lm.chunk_tokens
    tokens = "token" if chunk == 1 else f"{chunk} tokens"
    lasts = chunk_in_words(speech_lm.codec, chunk)
    first = f"{tokens}, {lasts}" if not speech_lm.codec.facts.quantizer.variable_rate else lasts
    within = "" if rules.local_seconds is None else f" and within {rules.local_seconds:g} s"
    bound = "" if speech_lm.head_facts.exact_log_probs else " The head gives lower bounds of likelihoods."
    return (
        "Accuracy: the share of pairs whose positive is likelier, in %; a tie counts "
        f"{'one half' if rules.ties == 'half' else 'nothing'}. Brackets: 95% intervals by a bootstrap over "
        f"items, the voices of an item together ({RESAMPLES:,} resamples, seed {SEED}), from {FEWEST_ITEMS} "
        "items on. Scores: "
        "log-likelihood of a recording, mean per scored token or sum; localised: mean over the tokens that "
        f"begin after the place where the pair splits{within}; normalised: by how much these are likelier "
        "than in the continuation alone, from its second chunk on. "
        f"Start: the first chunk ({first}) has no past and is not scored. End: there is no end token; the "
        "last token of a recording is scored, also in a chunk that is not whole. Silence is scored like "
        "speech, nothing is trimmed. Padding of batches is neither seen nor scored. A pair with a recording "
        f"too short to have a scored token counts as a tie.{bound}"
    )


def credits_of(
    scores: Sequence[PairScore], score: ScoreName, rules: LikelihoodRules
) -> list[tuple[PairScore, float]]:
    """Return what each pair counts by a score, without those that have no such score."""
    splits = score in ("localised", "normalised")
    return [
        (found, credit(*found.values(score), ties=rules.ties))
        for found in scores
        if not splits or found.split_s is not None
    ]


def suite_document(
    checked: CheckedSuite, scores: Sequence[PairScore], rules: LikelihoodRules
) -> dict[str, Any]:
    """Return everything that is reported of a suite; `scores` in the order of its pairs."""
    suite = checked.suite
    document: dict[str, Any] = {
        "suite": suite.config.registered_name(),
        "title": suite.title,
        "label": checked.label,
        "chance": 100 * suite.chance,
        "pairs": len(checked.pairs),
        "items": len({pair.item for pair in checked.pairs}),
        "recordings": len(checked.recordings),
        "partial": checked.is_partial,
        "described": checked.described(),
        "remark": checked.remark,
        "findings": [
            {"fault": finding.fault, "what": finding.what} for finding in checked.findings[:MOST_FINDINGS]
        ],
        "faults": dict(checked.faults),
        "digest": checked.digest(),
        "headline": suite.averages[0].name,
        "ties": {},
        "unscored": {},
        "numbers": {},
    }
    without = {average.name: average.without for average in suite.averages if average.without}
    for score in SCORES:
        counted = credits_of(scores, score, rules)
        if not counted:
            continue
        values = [found.values(score) for found, _ in counted]
        document["ties"][score] = sum(positive == negative for positive, negative in values)
        document["unscored"][score] = sum(math.isnan(a) or math.isnan(b) for a, b in values)
        for key, title, found in _numbers(checked, counted):
            number = document["numbers"].setdefault(key, {"title": title, "without": without.get(key)})
            shown = f"{document['title']}, {title} ({TITLES[score]})"
            number[score] = {"title": shown, **found.to_dict()}
    return document


def _numbers(
    checked: CheckedSuite, counted: Sequence[tuple[PairScore, float]]
) -> list[tuple[str, str, Accuracy]]:
    """Return (key, title, accuracy) of the averages and of every value of every group."""
    suite = checked.suite
    found = [(average.name, average.title, _average(average, counted)) for average in suite.averages]
    for group in suite.groups:
        there = [of.groups[group.name] for of, _ in counted if group.name in of.groups]
        found += [
            (f"{group.name}={value}", f"{group.title} {value}", _within(counted, group.name, value))
            for value in group.ordered(there)
        ]
    return found


def _average(average: Average, counted: Sequence[tuple[PairScore, float]]) -> Accuracy:
    if average.without is not None:
        group, left_out = average.without
        counted = [(of, value) for of, value in counted if of.groups.get(group) != left_out]
    if average.over is None:
        return accuracy([of.item for of, _ in counted], [value for _, value in counted])
    strata: dict[str, tuple[list[str], list[float]]] = {}
    for of, value in counted:
        items, credits = strata.setdefault(of.groups.get(average.over, ""), ([], []))
        items.append(of.item)
        credits.append(value)
    return macro_accuracy(strata.values())


def _within(counted: Sequence[tuple[PairScore, float]], group: str, value: str) -> Accuracy:
    own = [(of.item, counts) for of, counts in counted if of.groups.get(group) == value]
    return accuracy([item for item, _ in own], [counts for _, counts in own])


def official_texts(
    checked: CheckedSuite, scores: Sequence[PairScore], rules: LikelihoodRules
) -> dict[str, str]:
    """Return what the official scorer reads of a suite, and what it would write: path → text.

    Both recordings of a pair that cannot be compared get the same score. Ties count one half there, always.
    Scores have fewer digits than floats, which not every reader of numbers tells apart.
    """
    values: dict[str, float] = {}
    credits: list[tuple[Pair, float]] = []
    for pair, found in zip(checked.pairs, scores, strict=True):
        positive, negative = found.values(rules.submit)
        if math.isnan(positive) or math.isnan(negative):
            positive = negative = 0.0
        positive, negative = (float(f"{value:.{SUBMITTED_DIGITS}g}") for value in (positive, negative))
        values |= {pair.positive: positive, pair.negative: negative}
        credits.append((pair, credit(positive, negative, ties="half")))
    label = checked.suite.config.label
    below = "" if label is None else f"{label}/"
    return {
        **{f"submission/{below}{path}": text for path, text in checked.suite.submission(values).items()},
        **{f"official/{below}{path}": text for path, text in checked.suite.official(credits).items()},
    }


def number_text(number: Mapping[str, Any] | None) -> str:
    """Return an accuracy with its interval, such as `63.7 [62.4, 65.0]`."""
    if number is None or number["mean"] is None:
        return "–"
    if number["low"] is None:
        return f"{number['mean']:.1f}"
    return f"{number['mean']:.1f} [{number['low']:.1f}, {number['high']:.1f}]"


def tables_markdown(results: Mapping[str, Any]) -> str:
    """Return the page of an evaluation: a summary, and a table for each suite, all with their rules."""
    about = (
        f"Language model `{results['model']['reference']}` ({results['model']['digest']}), codec "
        f"{results['codec']['digest']}, wavslm {results['wavslm']}."
    )
    suites = list(results["suites"].values())
    shown = [score for score in SCORES if any(score in found["ties"] for found in suites)]
    rows = [
        [found["named"], number["title"], *_cells(number, shown)]
        for found in suites
        for key, number in found["numbers"].items()
        if "=" not in key
    ]
    header = ["suite", "", "items", "pairs", *(TITLES[score] for score in shown)]
    pieces = ["# Likelihood suites", about, markdown_table(header, rows), results["rules"]["text"]]
    if results["marks"] is not None:
        pieces += [markdown_table(["suite", "", "", *header[4:]], _marked(suites, shown))]
        pieces += [results["marks"]["text"]]
    for found in suites:
        own = [score for score in SCORES if score in found["ties"]]
        marks = found.get("marks", {})
        header = ["", "items", "pairs", *(TITLES[score] for score in own), *marks]
        rows = [
            [number["title"], *_cells(number, own)]
            + [number_text(numbers[key].get("mean")) for numbers in marks.values()]
            for key, number in found["numbers"].items()
        ]
        pieces += [f"## {found['named']}", markdown_table(header, rows), found["caption"]]
    return "\n\n".join(pieces) + "\n"


def _marked(suites: Sequence[Mapping[str, Any]], scores: Sequence[ScoreName]) -> list[list[str]]:
    """Return the averages of each mark below those of the model."""
    return [
        [found["named"], number["title"], name, *_cells(numbers[key], scores)[2:]]
        for found in suites
        for key, number in found["numbers"].items()
        if "=" not in key
        for name, numbers in {"model": found["numbers"], **found["marks"]}.items()
    ]


def captioned(found: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
    """Return a suite's document with what tables of it are called, and what stands below them."""
    ties = ", ".join(f"{TITLES[score]} {count}" for score, count in found["ties"].items())
    unscored = found["unscored"]["mean"]
    sentences = [
        f"{PARTIAL}: {found['described']}." if found["partial"] else f"{found['described']}.",
        found["remark"],
        f"Chance: {found['chance']:g}%.",
        f"Ties: {ties}.",
        f"{unscored} pairs are too short to be scored." if unscored else "",
        f"Data {found['digest']}, codec {results['codec']['digest']}, model {results['model']['digest']}.",
        results["rules"]["text"],
        f"{results['marks']['text']} Mean per token." if results["marks"] else "",
    ]
    label = "" if found["label"] == found["suite"] else f" {found['label']}"
    named = f"{found['title']}{label}{f' ({PARTIAL})' if found['partial'] else ''}"
    return {**found, "named": named, "caption": " ".join(filter(None, sentences))}


def _cells(number: Mapping[str, Any], scores: Sequence[ScoreName]) -> list[str]:
    one: Mapping[str, Any] = next((number[score] for score in SCORES if score in number), {})
    counts = [f"{one.get('count', 0):,}", f"{one.get('pairs', 0):,}"]
    return [*counts, *(number_text(number.get(score)) for score in scores)]
