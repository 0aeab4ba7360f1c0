"""Words as judges count them, and how far apart two texts are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

SPELT_ALIKE = {
    "mr": "mister",
    "mrs": "missus",
    "dr": "doctor",
    "grey": "gray",
    **{f"{stem}our": f"{stem}or" for stem in ("col", "fav", "flav", "harb", "hon", "neighb", "parl", "rum")},
}
"""What transcripts and recognisers write in different ways, though it is the same word."""


def words_of(text: str) -> list[str]:
    """Return the words in lower case, without punctuation; apostrophes inside words stay."""
    found = re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower().replace("\u2019", "'"))
    return [SPELT_ALIKE.get(word, word) for word in found]


def sentences_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Return what texts say, a sentence each, as words with spaces between; empty ones are left out."""
    lines = (" ".join(words_of(text)) for text in texts)
    return tuple(line for line in lines if line)


def edits(wanted: Sequence[str], heard: Sequence[str]) -> int:
    """Return the fewest substitutions, deletions and insertions from one to the other."""
    row = list(range(len(heard) + 1))
    for place, word in enumerate(wanted, start=1):
        diagonal, row[0] = row[0], place
        for column, other in enumerate(heard, start=1):
            diagonal, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, diagonal + (word != other)),
            )
    return row[-1]
