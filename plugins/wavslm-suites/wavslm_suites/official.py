"""What ZeroSpeech's sLM21 scorer reads and writes: scores a line, and tables with four decimals.

Scores of an item are means over its voices, first of all. Tables of groups tell the mean over items and the
sample standard deviation (n - 1), which is empty for a single item; so is the mean of a band without any.
Items come in order of their ids, by number where all of them are numbers, else as text.
"""

import csv
import io
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from wavslm_core.plugin import Pair

OOV = "oov"
BANDS = (OOV, "1-5", "6-20", "21-100", ">100")
_UPPER = (1, 5, 20, 100, math.inf)
"""Each band ends before its number: what its name says of 5, 20 and 100 is not what is computed."""


def band_of(frequency: int) -> str:
    """Return the band of a word's frequency in the training set."""
    return next(band for band, upper in zip(BANDS, _UPPER, strict=True) if frequency < upper)


def submission_lines(scores: Mapping[str, float]) -> str:
    """Return `<stem> <score>` lines; a score is written in full, so that what differs stays different."""
    return "".join(f"{name} {score!r}\n" for name, score in sorted(scores.items()))


@dataclass
class Item:
    """A word or sentence with its counterpart, in all its voices."""

    pair: Pair
    """Of the first voice."""
    credits: list[float] = field(default_factory=list)

    @property
    def score(self) -> float:
        return statistics.fmean(self.credits)


def lexical_tables(credits: Sequence[tuple[Pair, float]], part: str) -> dict[str, str]:
    """Return the tables of sWUGGY, file → text."""
    items = _items(credits)
    named = [
        (("frequency", "n", "score", "std"), _groups(items, "frequency", BANDS), "by_frequency"),
        (("length", "n", "score", "std"), _groups(items, "length"), "by_length"),
    ]
    pairs = [(*item.pair.texts, _decimals(item.score)) for item in items]
    tables = {f"score_lexical_{part}_by_pair.csv": _csv(("word", "non word", "score"), pairs)}
    return tables | {f"score_lexical_{part}_{name}.csv": _csv(header, rows) for header, rows, name in named}


def syntactic_tables(credits: Sequence[tuple[Pair, float]], part: str) -> dict[str, str]:
    """Return the tables of sBLIMP, file → text."""
    items = _items(credits)
    pairs = [(*item.pair.texts, _decimals(item.score)) for item in items]
    return {
        f"score_syntactic_{part}_by_pair.csv": _csv(("sentence", "non sentence", "score"), pairs),
        f"score_syntactic_{part}_by_type.csv": _csv(("type", "n", "score", "std"), _groups(items, "type")),
    }


def _items(credits: Iterable[tuple[Pair, float]]) -> list[Item]:
    found: dict[str, Item] = {}
    for pair, credit in credits:
        found.setdefault(pair.item, Item(pair)).credits.append(credit)
    # Of sentences, the id comes after the type and the subtype.
    ids = {key: key.rpartition("/") for key in found}
    if all(_is_integer(number) for _, _, number in ids.values()):
        return [found[key] for key in sorted(found, key=lambda key: (_place(found[key]), int(ids[key][2])))]
    return [found[key] for key in sorted(found, key=lambda key: (_place(found[key]), ids[key][2]))]


def _place(item: Item) -> tuple[str, str]:
    groups = item.pair.groups
    return groups.get("type", ""), groups.get("subtype", "")


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _groups(items: Sequence[Item], group: str, values: Sequence[str] = ()) -> list[tuple[str, str, str, str]]:
    """Return a row for each value of a group: all of `values`, or those that there are, in order."""
    scores: dict[str, list[float]] = defaultdict(list)
    for item in items:
        if group in item.pair.groups:
            scores[item.pair.groups[group]].append(item.score)
    numbers = all(_is_integer(value) for value in scores)
    order = values or sorted(scores, key=lambda value: (int(value) if numbers else 0, value))
    return [
        (
            value,
            str(len(scores[value])),
            _decimals(statistics.fmean(scores[value])) if scores[value] else "",
            _decimals(statistics.stdev(scores[value])) if len(scores[value]) > 1 else "",
        )
        for value in order
    ]


def _decimals(value: float) -> str:
    return f"{value:.4f}"


def _csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()
