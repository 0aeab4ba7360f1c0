"""What is read of each layout, how it is paired, and what is said of copies that are not whole."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from made_suites import pair_table, prosaudit, salmon, slamkit, stories, write_gold, write_sound, zerospeech

from wavslm_core.plugin import DataError, PairList, Suite
from wavslm_suites.config import (
    PairsConfig,
    ProsAuditConfig,
    SalmonConfig,
    SblimpConfig,
    SpokenStoryClozeConfig,
    SwuggyConfig,
)
from wavslm_suites.pair_table import PairTable
from wavslm_suites.prosaudit import ProsAudit
from wavslm_suites.salmon import Salmon
from wavslm_suites.story_cloze import SpokenStoryCloze
from wavslm_suites.zerospeech import LEXICAL, SYNTACTIC, Sblimp, Swuggy


def swuggy(root: Path) -> Suite[Any]:
    return Swuggy(SwuggyConfig(path=str(root)))


def sblimp(root: Path) -> Suite[Any]:
    return Sblimp(SblimpConfig(path=str(root)))


def faults(found: PairList) -> Counter[str]:
    return Counter(finding.fault for finding in found.findings)


def test_salmon_is_paired_by_number(copies: Path) -> None:
    suite = Salmon(SalmonConfig(path=str(copies / "salmon")))
    found = suite.read()
    assert (len(found.pairs), found.published_pairs) == (24, 1600)
    pair = found.pairs[4]
    assert (pair.id, pair.positive) == ("speaker_consistency/1", "speaker_consistency/sample_1_0")
    assert pair.negative == "speaker_consistency/sample_1_1"
    assert pair.groups == {"task": "speaker_consistency"}
    two = Salmon(SalmonConfig(path=str(copies / "salmon"), tasks=("rir_consistency", "bg_alignment"))).read()
    assert (len(two.pairs), two.published_pairs, two.remark) == (6, 400, "2 of 8 tasks.")


def test_salmon_of_the_hub_tells_where_pairs_split(copies: Path) -> None:
    found = Salmon(SalmonConfig(path=str(copies / "hub_salmon"))).read()
    assert len(found.pairs) == 16
    assert found.pairs[0].split_s == pytest.approx((0.2, 0.2))


def test_salmon_with_gaps(tmp_path: Path) -> None:
    folder = salmon(tmp_path, pairs=4) / "bg_alignment"
    (folder / "sample_1_0.wav").unlink()
    for side in "01":
        (folder / f"sample_2_{side}.wav").unlink()
    write_sound(folder / "sample_03_0.wav", 7)
    write_sound(folder / "sample_three_0.wav", 8)
    (folder / "sample_0_0.flac").write_bytes(b"x")
    shutil.rmtree(tmp_path / "rir_consistency")
    found = Salmon(SalmonConfig(path=str(tmp_path))).read()
    assert faults(found) == {"missing": 2, "unpaired": 3, "duplicate": 2, "wrongly named": 1}
    assert len(found.pairs) == 6 * 4


def test_zerospeech_words(copies: Path) -> None:
    found = swuggy(copies / "zerospeech").read()
    assert len(found.pairs) == 12 * 4
    for pair in found.pairs:
        good, bad = (int(name[1:]) for name in (pair.positive, pair.negative))
        assert bad == good + 1
    bands = Counter(pair.groups["frequency"] for pair in found.pairs)
    assert bands == {"oov": 12, "1-5": 12, "6-20": 8, "21-100": 8, ">100": 8}
    assert len({pair.item for pair in found.pairs}) == 12


def test_zerospeech_sentences(copies: Path) -> None:
    found = sblimp(copies / "zerospeech").read()
    assert len(found.pairs) == 8 * 4
    assert all(pair.texts[0].startswith("sentence") for pair in found.pairs)
    assert len({pair.item for pair in found.pairs}) == 8
    assert "the published dev set has 25,200" in found.remark


def test_words_that_lack_something_are_named(tmp_path: Path) -> None:
    root = zerospeech(tmp_path, words=4, sentences=1)
    folder = root / "lexical" / "dev"
    (folder / "w0003.wav").unlink()
    write_sound(folder / "stranger.wav", 1)
    gold = (folder / "gold.csv").read_text().splitlines()
    kept = [line for line in gold if ",w0009," not in line]
    doubled = next(line for line in gold if ",w0012," in line).replace("w0012", "w0009")
    (folder / "gold.csv").write_text("\n".join([*kept, doubled]) + "\n")
    found = swuggy(root).read()
    assert faults(found) == {"missing": 1, "wrongly named": 1, "unpaired": 1, "duplicate": 1}
    assert len(found.pairs) == 16 - 3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, "w1", "A", 1, "w", "P", 3, 2)], "`correct` is '2'"),
        ([(0, "w1", "A", "often", "w", "P", 3, 1), (0, "w2", "A", "", "n", "P", 3, 0)], "'often'"),
        ([(0, "w1", "A", 1, "w", "P", 3, 1), (1, "w1", "A", 1, "w", "P", 3, 1)], "in several rows"),
        ([(0, "w1", "A", 1, "w", "P", 3)], "7 cells"),
        ([], "no rows"),
    ],
)
def test_a_damaged_gold_is_one_error(tmp_path: Path, rows: list[tuple[object, ...]], message: str) -> None:
    folder = tmp_path / "lexical" / "dev"
    for name in ("w1", "w2"):
        write_sound(folder / f"{name}.wav", 1)
    write_gold(folder, LEXICAL, rows)
    with pytest.raises(DataError, match=message):
        swuggy(tmp_path).read()


def test_columns_are_read_by_position(tmp_path: Path) -> None:
    folder = tmp_path / "lexical" / "dev"
    write_sound(folder / "w1.wav", 1)
    write_gold(folder, (*LEXICAL[1:], "id"), [("w1", "A", 1, "w", "P", 3, 1, 0)])
    with pytest.raises(DataError, match="in this order"):
        swuggy(tmp_path).read()


def test_sentences_that_the_scorer_would_pair_wrongly_are_refused(tmp_path: Path) -> None:
    root = zerospeech(tmp_path, words=1, sentences=2)
    gold = root / "syntactic" / "dev" / "gold.csv"
    header, *rows = gold.read_text().splitlines()
    gold.write_text("\n".join([header, *(row for row in rows if ",s0016," not in row)]) + "\n")
    with pytest.raises(DataError, match="8 correct rows and 7"):
        sblimp(root).read()
    incorrect = [row for row in rows if row.endswith(",0")]
    correct = [row for row in rows if row.endswith(",1")]
    gold.write_text("\n".join([header, *correct, *incorrect[::-1]]) + "\n")
    with pytest.raises(DataError, match=r"another .*id, voice"):
        sblimp(root).read()
    write_gold(gold.parent, SYNTACTIC[:-1], [row.split(",")[:6] for row in rows])
    with pytest.raises(DataError, match="it must have"):
        sblimp(root).read()


def test_without_gold_nobody_knows(tmp_path: Path) -> None:
    write_sound(tmp_path / "lexical" / "test" / "w1.wav", 1)
    with pytest.raises(DataError, match="only dev has a public one"):
        Swuggy(SwuggyConfig(path=str(tmp_path), part="test")).read()


def test_slamkit_neighbours_are_pairs(copies: Path) -> None:
    words = swuggy(copies / "slamkit").read()
    assert [pair.positive for pair in words.pairs[:3]] == [
        "swuggy_inter/one/8_one", "swuggy_inter/one/10_one", "swuggy_inter/two/8_two",
    ]  # fmt: skip
    assert words.pairs[0].negative == "swuggy_inter/one/9_one"
    assert words.pairs[0].item == words.pairs[2].item == "swuggy_inter/8"
    assert Counter(pair.groups["frequency"] for pair in words.pairs) == {"in vocabulary": 4, "oov": 4}
    assert len(sblimp(copies / "slamkit").read().pairs) == 4


def test_slamkit_whose_order_is_not_known_is_refused(tmp_path: Path) -> None:
    folder = slamkit(tmp_path) / "swuggy_oov" / "one"
    write_sound(folder / "08_one.wav", 3)
    with pytest.raises(DataError, match="have one number"):
        swuggy(tmp_path).read()
    (folder / "08_one.wav").rename(folder / "40_one.wav")
    with pytest.raises(DataError, match="an odd number"):
        swuggy(tmp_path).read()
    (folder / "40_one.wav").rename(folder / "forty_one.wav")
    with pytest.raises(DataError, match="no number before '_'"):
        swuggy(tmp_path).read()
    shutil.rmtree(tmp_path / "swuggy_oov")
    assert faults(swuggy(tmp_path).read()) == {"missing": 1}


def test_stories_are_paired_by_name(tmp_path: Path) -> None:
    stories(tmp_path, count=3)
    # Another order, another numbering, and a file that is there twice.
    (tmp_path / "0_story0_correct.wav").rename(tmp_path / "90_story0_correct.wav")
    for label in ("correct", "incorrect"):
        write_sound(tmp_path / f"7_{label}.wav", 70 + len(label))
    write_sound(tmp_path / "55_story1_correct.wav", 5)
    (tmp_path / "5_story2_incorrect.wav").unlink()
    write_sound(tmp_path / "readme.wav", 6)
    found = SpokenStoryCloze(SpokenStoryClozeConfig(path=str(tmp_path))).read()
    assert {pair.id: (pair.positive, pair.negative) for pair in found.pairs} == {
        "7": ("7_correct", "7_incorrect"),
        "story0": ("90_story0_correct", "1_story0_incorrect"),
    }
    assert faults(found) == {"duplicate": 1, "unpaired": 1, "wrongly named": 1}
    assert found.published_pairs == 1871


def test_prosaudit_has_two_rows_an_id(tmp_path: Path) -> None:
    gold = prosaudit(tmp_path) / "english" / "dev" / "gold.csv"
    suite = ProsAudit(ProsAuditConfig(path=str(tmp_path)))
    found = suite.read()
    assert (found.pairs[0].positive, found.pairs[0].negative) == ("p1", "p0")
    assert suite.submission({"p0": -1.5, "p1": -0.25}) == {"english_dev.txt": "p0 -1.5\np1 -0.25\n"}
    gold.write_text("\n".join(gold.read_text().splitlines()[:-1]) + "\n")
    found = suite.read()
    assert faults(found) == {"unpaired": 1, "wrongly named": 1}


def test_own_pairs(tmp_path: Path) -> None:
    table = pair_table(tmp_path)
    suite = PairTable(PairsConfig(path=str(table), groups=("kind",)))
    found = suite.read()
    assert found.pairs[1].groups == {"kind": "odd"}
    assert found.pairs[0].item == found.pairs[1].item == "item 0"
    assert [pair.split_s for pair in found.pairs] == [(0.3, 0.3), (0.3, 0.3), None, None]
    rows = "positive,negative,positive_split,negative_split\naudio/0_0.flac,audio/0_1.flac,0.1,0.2\n"
    (tmp_path / "own.csv").write_text(rows + "audio/none.flac,audio/0_1.flac,,\n")
    found = PairTable(PairsConfig(path=str(tmp_path / "own.csv"))).read()
    assert [pair.split_s for pair in found.pairs] == [(0.1, 0.2)]
    assert faults(found) == {"missing": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"positive": "a.wav"}\n', "`negative` is None"),
        ('{"positive": "a.wav", "negative": "b.wav", "split": "soon"}\n', "splits at"),
        ('{"positive": "a.wav", "negative": "b.wav", "positive_split": 1}\n', "seconds of both"),
        ('["a.wav", "b.wav"]\n', "line 1: it should be an object"),
        ('{"positive": "a", "negative": "b", "id": "x"}\n' * 2, "'x' is there twice"),
    ],
)
def test_a_wrong_table_is_one_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pairs.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        PairTable(PairsConfig(path=str(tmp_path / "pairs.jsonl"))).read()


def test_a_table_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("good,bad\na,b\n")
    with pytest.raises(DataError, match="no column positive, negative"):
        PairTable(PairsConfig(path=str(tmp_path / "pairs.csv"))).read()
    (tmp_path / "pairs.txt").write_text("a b\n")
    with pytest.raises(DataError, match=r"neither a \.jsonl nor a \.csv"):
        PairTable(PairsConfig(path=str(tmp_path / "pairs.txt"))).read()
