"""Submissions and tables, against what ZeroSpeech's own scorer wrote for the same gold.csv and scores.

The expected texts come from `zerospeech-benchmarks` 0.9.4, run on the files that this test writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from made_suites import write_gold

from wavslm_core.plugin import Suite
from wavslm_suites.config import SblimpConfig, SwuggyConfig
from wavslm_suites.zerospeech import LEXICAL, SYNTACTIC, Sblimp, Swuggy

WORDS = {  # id → frequency, length, how far each voice's word is ahead of its non-word
    "12": (0, 4, (1, 1, -1)), "3": (4, 4, (0, 1, 1)), "101": (5, 7, (-1, -1, -1)),
    "20": (19, 7, (1, 0, 0)), "7": (20, 4, (1, 1, 1)), "8": (99, 10, (-1, 1, 0)),
    "2": (100, 7, (1, -1, 1)), "1": (0, 4, (0, 0, 1)),
}  # fmt: skip
SENTENCES = (  # type, subtype, id, what each voice prefers
    ("npi licensing", "s2", "4", (1, -1)), ("agreement", "s10", "11", (1, 1)),
    ("agreement", "s10", "2", (0, 1)), ("agreement", "s2", "1", (-1, -1)),
    ("binding", "s1", "5", (1, 1)), ("binding", "s1", "40", (0, -1)),
)  # fmt: skip


def lexical(folder: Path) -> dict[str, float]:
    """Write a gold.csv, empty WAVs, and return the score of each recording."""
    rows: list[Sequence[object]] = []
    scores: dict[str, float] = {}
    for item, (frequency, length, ahead) in WORDS.items():
        for voice, by in zip("CAB", ahead, strict=True):
            word, other = f"w{item}{voice}", f"n{item}{voice}"
            rows.insert(0, (item, word, voice, frequency, f"word{item}", f"W {item}", length, 1))
            rows.append((item, other, voice, "", f"non{item}", f"N {item}", length, 0))
            scores |= {word: -2.0 + by / 3, other: -2.0}
    return written(folder, LEXICAL, rows, scores)


def syntactic(folder: Path) -> dict[str, float]:
    rows: list[Sequence[object]] = []
    scores: dict[str, float] = {}
    for place, (kind, subtype, item, ahead) in enumerate(SENTENCES):
        for voice, by in zip("BA", ahead, strict=True):
            name = f"{kind[0]}{subtype}{item}{voice}"
            both = [
                (item, f"c{name}", voice, kind, subtype, f"right, '{item}'", 1),
                (item, f"x{name}", voice, kind, subtype, f"wrong {item}", 0),
            ]
            rows += both if place % 2 else both[::-1]
            scores |= {f"c{name}": -1.5 + by / 7, f"x{name}": -1.5}
    return written(folder, SYNTACTIC, rows, scores)


def written(
    folder: Path, columns: Sequence[str], rows: Sequence[Sequence[object]], scores: Mapping[str, float]
) -> dict[str, float]:
    folder.mkdir(parents=True)
    write_gold(folder, columns, rows)
    for name in scores:
        (folder / f"{name}.wav").touch()
    return dict(scores)


def tables(suite: Suite[Any], scores: Mapping[str, float]) -> dict[str, str]:
    pairs = suite.read().pairs
    ahead = [(pair, scores[pair.positive] - scores[pair.negative]) for pair in pairs]
    return dict(suite.official([(pair, 0.5 + 0.5 * ((by > 0) - (by < 0))) for pair, by in ahead]))


def test_words(tmp_path: Path) -> None:
    scores = lexical(tmp_path / "lexical" / "dev")
    suite = Swuggy(SwuggyConfig(path=str(tmp_path)))
    found = tables(suite, scores)
    assert found == LEXICAL_TABLES
    (path, text), *others = suite.submission(scores).items()
    assert (path, others) == ("lexical/dev.txt", [])
    lines = [line.split(" ") for line in text.splitlines()]
    assert {name: float(score) for name, score in lines} == scores
    assert len(lines) == len(scores) == 48


def test_sentences(tmp_path: Path) -> None:
    scores = syntactic(tmp_path / "syntactic" / "dev")
    suite = Sblimp(SblimpConfig(path=str(tmp_path)))
    assert tables(suite, scores) == SYNTACTIC_TABLES
    assert list(suite.submission(scores)) == ["syntactic/dev.txt"]


def test_non_words_without_a_spelling_go_by_their_phones(tmp_path: Path) -> None:
    scores = lexical(tmp_path / "lexical" / "dev")
    gold = tmp_path / "lexical" / "dev" / "gold.csv"
    text = gold.read_text()
    for item in WORDS:
        text = text.replace(f",non{item},", ",,")
    gold.write_text(text)
    found = tables(Swuggy(SwuggyConfig(path=str(tmp_path))), scores)
    assert found["score_lexical_dev_by_pair.csv"].splitlines()[1] == "W 1,N 1,0.6667"


def test_only_zerospeechs_layout_is_submitted(copies: Path) -> None:
    suite = Swuggy(SwuggyConfig(path=str(copies / "slamkit")))
    pairs = suite.read().pairs
    assert suite.submission({pair.positive: 0.0 for pair in pairs}) == {}
    assert suite.official([(pair, 1.0) for pair in pairs]) == {}


LEXICAL_TABLES = {
    "score_lexical_dev_by_pair.csv": """\
word,non word,score
word1,non1,0.6667
word2,non2,0.6667
word3,non3,0.8333
word7,non7,1.0000
word8,non8,0.5000
word12,non12,0.6667
word20,non20,0.6667
word101,non101,0.0000
""",
    "score_lexical_dev_by_frequency.csv": """\
frequency,n,score,std
oov,2,0.6667,0.0000
1-5,1,0.8333,
6-20,2,0.3333,0.4714
21-100,2,0.7500,0.3536
>100,1,0.6667,
""",
    "score_lexical_dev_by_length.csv": """\
length,n,score,std
4,4,0.7917,0.1596
7,3,0.4444,0.3849
10,1,0.5000,
""",
}
SYNTACTIC_TABLES = {
    "score_syntactic_dev_by_pair.csv": """\
sentence,non sentence,score
"right, '2'",wrong 2,0.7500
"right, '11'",wrong 11,1.0000
"right, '1'",wrong 1,0.0000
"right, '5'",wrong 5,1.0000
"right, '40'",wrong 40,0.2500
"right, '4'",wrong 4,0.5000
""",
    "score_syntactic_dev_by_type.csv": """\
type,n,score,std
agreement,3,0.5833,0.5204
binding,2,0.6250,0.5303
npi licensing,1,0.5000,
""",
}
