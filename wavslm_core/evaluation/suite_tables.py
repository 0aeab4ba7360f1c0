"""What scored pairs come to: every number of a suite as JSON values, and tables that state their rules."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

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
from wavslm_core.evaluation.pair_scores import SCORES, PairScore
from wavslm_core.machine.terminal import markdown_table
from wavslm_core.model.prompts import chunk_in_words
from wavslm_core.model.speech_lm import SpeechLM

CountName = Literal["mean", "sum", "localised", "normalised", "by_item"]
COUNTS: tuple[CountName, ...] = (*SCORES, "by_item")
"""Ways to count: pair by pair by a score, or all pairs of an item together."""
TITLES: dict[CountName, str] = {
    "mean": "mean per token",
    "sum": "sum",
    "localised": "localised",
    "normalised": "normalised",
    "by_item": "by item",
}
ROUNDING = 1e-9
"""Sums of the same log-likelihoods in other orders differ by less, as a share of them."""
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
        "than in the continuation alone, from its second chunk on; by item: the share of items whose "
        "positives together have the higher sum, so that what takes turns within an item cancels, as far as "
        "the codec gives the same sound the same tokens. "
        f"Start: the first chunk ({first}) has no past and is not scored. End: there is no end token; the "
        "last token of a recording is scored, also in a chunk that is not whole. Silence is scored like "
        "speech, nothing is trimmed. Padding of batches is neither seen nor scored. A pair with a recording "
        f"too short to have a scored token counts as a tie.{bound}"
    )


def credits_of(
    scores: Sequence[PairScore], count: CountName, rules: LikelihoodRules
) -> list[tuple[PairScore, float]]:
    """Return what each of these pairs counts, without those that have no such score.

    By item, all pairs of an item count alike.
    """
    if count == "by_item":
        sums = item_sums(scores)
        credits = {item: credit(sum_nats, 0.0, ties=rules.ties) for item, sum_nats in sums.items()}
        return [(found, credits[found.item]) for found in scores]
    splits = count in ("localised", "normalised")
    return [
        (found, credit(*found.values(count), ties=rules.ties))
        for found in scores
        if not splits or found.split_s is not None
    ]


def item_sums(scores: Sequence[PairScore]) -> dict[str, float]:
    """Return item → by how many nats its positives are likelier than its negatives, all together.

    Zero where that is rounding. A pair of which a recording has no scored token adds nothing.
    """
    nats: dict[str, list[float]] = defaultdict(list)
    for found in scores:
        positive, negative = found.values("sum")
        nats[found.item] += [] if math.isnan(positive - negative) else [positive, -negative]
    sums = {item: (math.fsum(values), math.fsum(map(abs, values))) for item, values in nats.items()}
    return {item: total if abs(total) > ROUNDING * size else 0.0 for item, (total, size) in sums.items()}


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
    for count in COUNTS:
        counted = partial(credits_of, count=count, rules=rules)
        credits = counted(scores)
        # Items of one pair each are what the sum counts already.
        if not credits or (count == "by_item" and document["items"] == len(scores)):
            continue
        if count == "by_item":
            document["ties"][count] = sum(not nats for nats in item_sums(scores).values())
            document["unscored"][count] = document["unscored"]["sum"]
        else:
            values = [found.values(count) for found, _ in credits]
            document["ties"][count] = sum(positive == negative for positive, negative in values)
            document["unscored"][count] = sum(math.isnan(a) or math.isnan(b) for a, b in values)
        for key, title, found in _numbers(
            checked, [of for of, _ in credits], counted, whole_items=count == "by_item"
        ):
            number = document["numbers"].setdefault(key, {"title": title, "without": without.get(key)})
            shown = f"{document['title']}, {title} ({TITLES[count]})"
            number[count] = {"title": shown, **found.to_dict()}
    return document


Counted = Callable[[Sequence[PairScore]], list[tuple[PairScore, float]]]
"""What gives the credits of the pairs that a number is over."""


def _numbers(
    checked: CheckedSuite, scores: Sequence[PairScore], counted: Counted, *, whole_items: bool
) -> list[tuple[str, str, Accuracy]]:
    """Return (key, title, accuracy) of the averages and of every value of every group.

    `whole_items`: without those values that have only some of the pairs of an item.
    """
    suite = checked.suite
    pairs_of = Counter(of.item for of in scores)
    found = [(average.name, average.title, _average(average, scores, counted)) for average in suite.averages]
    for group in suite.groups:
        there = [of.groups[group.name] for of in scores if group.name in of.groups]
        for value in group.ordered(there):
            within = _within(scores, group.name, value)
            own = Counter(of.item for of in within)
            if whole_items and any(own[item] < pairs_of[item] for item in own):
                continue
            found.append((f"{group.name}={value}", f"{group.title} {value}", _accuracy(counted(within))))
    return found


def _average(average: Average, scores: Sequence[PairScore], counted: Counted) -> Accuracy:
    if average.without is not None:
        group, left_out = average.without
        scores = [of for of in scores if of.groups.get(group) != left_out]
    if average.over is None:
        return _accuracy(counted(scores))
    values = dict.fromkeys(of.groups.get(average.over, "") for of in scores)
    strata = [counted(_within(scores, average.over, value)) for value in values]
    return macro_accuracy([_items_and_credits(stratum) for stratum in strata])


def _within(scores: Sequence[PairScore], group: str, value: str) -> list[PairScore]:
    return [of for of in scores if of.groups.get(group, "") == value]


def _accuracy(credits: Sequence[tuple[PairScore, float]]) -> Accuracy:
    return accuracy(*_items_and_credits(credits))


def _items_and_credits(credits: Sequence[tuple[PairScore, float]]) -> tuple[list[str], list[float]]:
    return [of.item for of, _ in credits], [value for _, value in credits]


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
    shown = [score for score in COUNTS if any(score in found["ties"] for found in suites)]
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
        own = [score for score in COUNTS if score in found["ties"]]
        marks = found.get("marks", {})
        header = ["", "items", "pairs", *(TITLES[score] for score in own), *marks]
        rows = [
            [number["title"], *_cells(number, own)]
            + [number_text(numbers[key].get("mean")) for numbers in marks.values()]
            for key, number in found["numbers"].items()
        ]
        pieces += [f"## {found['named']}", markdown_table(header, rows), found["caption"]]
    return "\n\n".join(pieces) + "\n"


def _marked(suites: Sequence[Mapping[str, Any]], scores: Sequence[CountName]) -> list[list[str]]:
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


def _cells(number: Mapping[str, Any], scores: Sequence[CountName]) -> list[str]:
    one: Mapping[str, Any] = next((number[score] for score in COUNTS if score in number), {})
    counts = [f"{one.get('count', 0):,}", f"{one.get('pairs', 0):,}"]
    return [*counts, *(number_text(number.get(score)) for score in scores)]
