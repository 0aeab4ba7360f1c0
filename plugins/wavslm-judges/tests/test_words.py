"""Words and edits between them."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, strategies as st

from wavslm_judges.words import edits, sentences_of, words_of

WORDS = st.lists(st.sampled_from("abc"), max_size=6)


@given(WORDS, WORDS)
def test_edits_are_the_fewest(wanted: list[str], heard: list[str]) -> None:
    @cache
    def fewest(i: int, j: int) -> int:
        """Edits from wanted[:i] to heard[:j], straight from the definition."""
        if i == 0 or j == 0:
            return i + j
        substituted = fewest(i - 1, j - 1) + (wanted[i - 1] != heard[j - 1])
        return min(fewest(i - 1, j) + 1, fewest(i, j - 1) + 1, substituted)

    assert edits(wanted, heard) == fewest(len(wanted), len(heard))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don\u2019t stop, Anna!", ["don't", "stop", "anna"]),
        ("a well-known 'quote'", ["a", "well", "known", "quote"]),
        ("MISTER Hale at the harbour", ["mister", "hale", "at", "the", "harbor"]),
        ("Mr. Hale at the harbor", ["mister", "hale", "at", "the", "harbor"]),
        (" … ", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_sentences() -> None:
    assert sentences_of(["One, two.", " … ", "Three!"]) == ("one two", "three")
