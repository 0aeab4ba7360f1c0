"""Speech that goes on in the same voice or in another one: nothing else tells, and any corpus will do."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from made_suites import speech
from pydantic import ValidationError

from wavslm_core.plugin import (
    DataError,
    Pair,
    PairList,
    Suite,
    load_registry,
    read_audio,
    spectral_distance_db,
)
from wavslm_suites.config import SpeakerConsistencyConfig

Samples = npt.NDArray[np.int16]
SHARED = Path(os.environ.get("WAVSLM_SHARED", Path(__file__).resolve().parents[3] / "../shared"))
GRID = 1280
SEX = {"a": "F", "b": "F", "c": "M", "d": "M"}


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return speech(tmp_path_factory.mktemp("spoken"))


def suite_of(spoken: Path, cache: Path, **options: Any) -> Suite[Any]:
    given = {"path": str(spoken / "speech"), "speakers": str(spoken / "sexes.tsv"), "pairs": 12} | options
    config = SpeakerConsistencyConfig.model_validate(
        {name: value for name, value in given.items() if value is not None}
    )
    suite: Suite[Any] = load_registry().build(config, cache_dir=cache)
    return suite


@dataclass(frozen=True)
class Made:
    """A suite, with its audio."""

    found: PairList
    audio: Mapping[str, Samples]

    @classmethod
    def of(cls, suite: Suite[Any]) -> Made:
        found = suite.read()
        names = [name for pair in found.pairs for name in (pair.positive, pair.negative)]
        return cls(found, {name: soundfile.read(suite.source(name), dtype="int16")[0] for name in names})

    def split(self, pair: Pair) -> int:
        assert pair.split_s is not None
        assert pair.split_s[0] == pair.split_s[1]
        return round(16_000 * pair.split_s[0])

    def halves(self, pair: Pair) -> tuple[Samples, Samples, Samples]:
        """Return what both begin with, how the right one goes on, and how the wrong one does."""
        right, wrong = self.audio[pair.positive], self.audio[pair.negative]
        split = self.split(pair)
        assert np.array_equal(right[:split], wrong[:split])
        return right[:split], right[split:], wrong[split:]

    def items(self) -> list[tuple[Pair, Pair]]:
        items: dict[str, list[Pair]] = defaultdict(list)
        for pair in self.found.pairs:
            items[pair.item].append(pair)
        assert {len(pairs) for pairs in items.values()} == {2}
        return [(one, other) for one, other in items.values()]


@pytest.fixture(scope="module")
def made(spoken: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made.of(suite_of(spoken, tmp_path_factory.mktemp("cache")))


def utterances(text: str) -> list[str]:
    """Return whose which utterances a recording is made of, as its text in the index says."""
    return re.findall(r"([a-z]-\d+)\.flac", text)


def level_db(samples: Samples) -> float:
    return 10 * float(np.log10(np.mean((samples / 32768) ** 2) + 1e-12))


def test_each_second_half_is_right_once_and_wrong_once_sample_for_sample(made: Made) -> None:
    for one, other in made.items():
        (first, right, wrong), (first_too, right_too, wrong_too) = made.halves(one), made.halves(other)
        assert np.array_equal(right, wrong_too)
        assert np.array_equal(wrong, right_too)
        assert len(right) == len(wrong)
        assert not np.array_equal(first, first_too)
        assert not np.array_equal(right, wrong)


def test_pairs_split_at_multiples_of_80_ms_and_halves_are_long_enough(made: Made) -> None:
    for pair in made.found.pairs:
        first, right, _ = made.halves(pair)
        assert len(first) % GRID == len(right) % GRID == 0
        assert all(1.5 - 0.08 <= len(half) / 16_000 <= 4.0 for half in (first, right))


def check_sound(made: Made, *, quiet_db: float) -> None:
    """Halves of an item are equally loud, nothing is clipped, and joins lie in pauses, without a click."""
    for pairs in made.items():
        levels = [level_db(half) for pair in pairs for half in made.halves(pair)]
        assert max(levels) - min(levels) < 0.01
        assert max(levels) < -22.9
    for pair in made.found.pairs:
        for name in (pair.positive, pair.negative):
            samples, split = made.audio[name], made.split(pair)
            assert np.abs(samples.astype(int)).max() <= 0.951 * 32768
            assert level_db(samples[split - 160 : split + 160]) < level_db(samples) - quiet_db
            assert np.abs(np.diff(samples[split - 3 : split + 3].astype(int))).max() <= 2


def test_halves_are_equally_loud_and_joined_in_pauses(made: Made) -> None:
    check_sound(made, quiet_db=20)


def test_another_voice_follows_in_the_wrong_recording_alone(made: Made) -> None:
    for pair in made.found.pairs:
        (first, right), (first_too, wrong) = (utterances(text) for text in pair.texts)
        assert first == first_too
        assert first[0] == right[0] == pair.groups["speaker"] != wrong[0]
        assert first != right, "of another utterance"
        assert pair.groups["sex"] == SEX[first[0]]
        same_sex = SEX[wrong[0]] == SEX[first[0]]
        assert same_sex == (pair.groups["task"] == "speaker")
    assert Counter(pair.groups["task"] for pair in made.found.pairs) == {"speaker": 12, "gender": 12}
    spoken = Counter((pair.groups["task"], pair.groups["speaker"]) for pair in made.found.pairs)
    assert set(spoken.values()) == {3}


def test_what_spectra_and_background_tell_is_said(made: Made) -> None:
    def background_db(samples: Samples) -> float:
        frames = samples.reshape(-1, 320) / 32768.0
        return float(10 * np.log10(np.percentile((frames**2).mean(axis=1), 10)))

    def apart(clue: str, pair: Pair, name: str) -> float:
        samples, split = made.audio[name], made.split(pair)
        if clue == "spectra":
            return spectral_distance_db(samples, split)
        return abs(background_db(samples[:split]) - background_db(samples[split:]))

    for clue in ("spectra", "background"):
        for task in ("speaker", "gender"):
            told = re.search(rf"{clue}, {task} ([0-9.]+)%", made.found.remark)
            assert told, made.found.remark
            credits = [
                0.5 + 0.5 * np.sign(apart(clue, pair, pair.negative) - apart(clue, pair, pair.positive))
                for pair in made.found.pairs
                if pair.groups["task"] == task
            ]
            assert float(told[1]) == pytest.approx(100 * np.mean(credits), abs=0.051)
            assert clue == "background" or float(told[1]) > 60
    assert "4 speakers (2 F, 2 M)" in made.found.remark


def test_pieces_are_used_evenly_and_no_more_often_than_said(spoken: Path, tmp_path: Path) -> None:
    found = suite_of(spoken, tmp_path, pairs=20, uses=2, tasks=["gender"]).read()
    rights = Counter(pair.texts[0] for pair in found.pairs)
    assert set(rights.values()) == {1}
    for side in (0, 1):
        halves = Counter(text.split(" + ")[side] for text in rights)
        assert max(halves.values()) <= 2
    seconds = [Counter(pair.texts[side].split(" + ")[1] for pair in found.pairs) for side in (0, 1)]
    assert seconds[0] == seconds[1]


def test_it_may_go_on_as_the_same_utterance_does(spoken: Path, tmp_path: Path) -> None:
    found = suite_of(spoken, tmp_path, second="same_utterance", seconds=[0.8, 2.2], pairs=8).read()
    for pair in found.pairs:
        (first, right), (_, wrong) = (utterances(text) for text in pair.texts)
        assert first == right != wrong
        starts = [float(start) for start in re.findall(r"at ([0-9.]+) s", pair.texts[0])]
        assert 0.8 < starts[1] - starts[0] < 2.2 + 0.2
    assert "second halves are of the same utterance" in found.remark


def test_without_a_table_any_other_speaker_follows(spoken: Path, tmp_path: Path) -> None:
    found = suite_of(spoken, tmp_path, speakers=None, pairs=24).read()
    assert {pair.groups["task"] for pair in found.pairs} == {"speaker"}
    assert not any("sex" in pair.groups for pair in found.pairs)
    switches = {(pair.groups["speaker"], utterances(pair.texts[1])[1][0]) for pair in found.pairs}
    assert len(switches) == 12


def files(cache: Path) -> dict[str, bytes]:
    (folder,) = cache.glob("speaker_consistency-*")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_made_again_elsewhere_it_is_the_same(spoken: Path, tmp_path: Path) -> None:
    suite_of(spoken, tmp_path / "one").read()
    program = (
        "import sys; from pathlib import Path\n"
        "from wavslm_suites.config import SpeakerConsistencyConfig\n"
        "from wavslm_suites.speaker_consistency import SpeakerConsistency\n"
        "config = SpeakerConsistencyConfig(path=sys.argv[1], speakers=sys.argv[2], pairs=12)\n"
        "SpeakerConsistency(config, cache_dir=Path(sys.argv[3])).read()"
    )
    given = [str(spoken / "speech"), str(spoken / "sexes.tsv"), str(tmp_path / "other")]
    environment = os.environ | {"PYTHONHASHSEED": "17"}
    subprocess.run([sys.executable, "-c", program, *given], check=True, env=environment)
    found = files(tmp_path / "one")
    assert len(found) == 2 * 24 + 1
    assert files(tmp_path / "other") == found
    assert {"id", "item", "groups", "split", "samples", "texts"} == {
        *json.loads(found["index.json"])["lines"][0]
    }


def test_another_seed_other_options_and_other_speech_make_it_anew(spoken: Path, tmp_path: Path) -> None:
    other = tmp_path / "copy"
    shutil.copytree(spoken, other)
    cache = tmp_path / "cache"
    first = suite_of(other, cache).read()
    seeded = suite_of(other, cache, seed=1).read()
    assert [pair.texts for pair in first.pairs] != [pair.texts for pair in seeded.pairs]
    suite_of(other, cache, label="mine").read()
    assert len([*cache.glob("speaker_consistency-*")]) == 2
    (other / "sexes.tsv").write_text("speaker,sex\na,F\nb,M\nc,F\nd,M\n")
    swapped = suite_of(other, cache).read()
    assert {pair.groups["sex"] for pair in swapped.pairs if pair.groups["speaker"] == "b"} == {"M"}
    write_longer(other / "speech" / "a-0.flac")
    suite_of(other, cache).read()
    assert len([*cache.glob("speaker_consistency-*")]) == 4


def write_longer(path: Path) -> None:
    samples, rate_hz = soundfile.read(path)
    soundfile.write(path, np.concatenate([samples, samples]), rate_hz)


def test_a_corpus_of_any_rate_with_folders_for_speakers(spoken: Path, tmp_path: Path) -> None:
    for voice in "ab":
        for number in range(4):
            samples, _ = soundfile.read(spoken / "speech" / f"{voice}-{number}.flac")
            (tmp_path / "data" / "dev" / voice).mkdir(parents=True, exist_ok=True)
            soundfile.write(tmp_path / "data" / "dev" / voice / f"{number}.wav", samples, 12_000)
    corpus = {"corpus": "folder", "path": str(tmp_path / "data"), "speaker_separator": "/"}
    suite = suite_of(spoken, tmp_path, path=None, corpus=corpus, speakers=None, pairs=6)
    found = suite.read()
    assert {pair.groups["speaker"] for pair in found.pairs} == {"a", "b"}
    assert soundfile.info(suite.source(found.pairs[0].positive)).samplerate == 16_000


def test_a_corpus_that_is_made_on_the_spot(spoken: Path, tmp_path: Path) -> None:
    corpus = {"corpus": "tiny_speech", "minutes": 1, "valid_minutes": 1.5}
    made = Made.of(suite_of(spoken, tmp_path, path=None, corpus=corpus, speakers=None, pairs=6))
    check_sound(made, quiet_db=15)
    assert len(made.found.pairs) == 6


def test_what_is_left_out_is_counted(spoken: Path, tmp_path: Path) -> None:
    root = speech(tmp_path, voices="abcde", utterances=3)
    shutil.copy(root / "speech" / "a-0.flac", root / "speech" / "lonely-0.flac")
    shutil.copy(root / "speech" / "a-0.flac", root / "speech" / "-0.flac")
    samples, rate_hz = soundfile.read(root / "speech" / "a-0.flac")
    soundfile.write(root / "speech" / "a-0.flac", samples[: rate_hz // 2], rate_hz)
    remark = suite_of(root, tmp_path / "cache", pairs=8).read().remark
    for counted in (
        "5 speakers (2 F, 2 M)",
        "Speakers with a single utterance: 1.",
        "Utterances of nobody known: 1.",
        "Speakers of unknown sex: 1.",
        "Speakers left out of a task, since nobody fits them: 1.",
        "Utterances too short, or without a pause to cut in: 1.",
    ):
        assert counted in remark, (counted, remark)


def copied(spoken: Path, root: Path, pattern: str) -> Path:
    (root / "speech").mkdir(parents=True)
    for path in spoken.glob(f"speech/{pattern}"):
        shutil.copy(path, root / "speech")
    shutil.copy(spoken / "sexes.tsv", root)
    return root


@pytest.mark.parametrize(
    ("pattern", "options", "message"),
    [
        (
            "a-*",
            {},
            "needs two speakers with two utterances or more each, and has 1; its 5 utterances are by",
        ),
        ("*-0.flac", {}, "and has 0; its 4 utterances are by 4 speakers, such as 'a', 'b', 'c'"),
        (
            "[ab]-*",
            {"tasks": ["gender"]},
            "no pair of task gender .* 0 of 2 speakers \\(2 F\\) have somebody",
        ),
        ("[ac]-*", {"tasks": ["speaker"]}, "no pair of task speaker .*; leave it out of `tasks`"),
        (
            "*",
            {"pairs": 2000},
            "only \\d+ of 2000 pairs of task speaker .* set `pairs` to \\d+, raise `uses`",
        ),
        (
            "*",
            {"seconds": [30, 60], "tasks": ["speaker"]},
            "[0-9]+ of their utterances gave 0 pieces of 30 to 60 s",
        ),
        ("nothing", {}, "holds no .* file"),
    ],
)
def test_speech_that_does_not_do(
    spoken: Path, tmp_path: Path, pattern: str, options: dict[str, Any], message: str
) -> None:
    root = copied(spoken, tmp_path / "some", pattern)
    with pytest.raises(DataError, match=message):
        suite_of(root, tmp_path / "cache", **options).read()


def test_as_many_pairs_as_are_said_to_be_there_can_be_made(spoken: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        suite_of(spoken, tmp_path, pairs=2000, tasks=["speaker"], uses=1).read()
    pairs = int(re.findall(r"set `pairs` to (\d+)", str(refused.value))[0])
    assert len(suite_of(spoken, tmp_path, pairs=pairs, tasks=["speaker"], uses=1).read().pairs) == pairs >= 8


def test_a_corpus_that_knows_no_speakers(spoken: Path, tmp_path: Path) -> None:
    corpus = {"corpus": "folder", "path": str(spoken / "speech")}
    with pytest.raises(
        DataError, match=r"split 'valid' of corpus 'folder' .*speech\) does not tell who speaks; give a"
    ):
        suite_of(spoken, tmp_path, path=None, corpus=corpus, speakers=None).read()


@pytest.mark.parametrize(
    "table",
    [
        "speaker\tsex\na\tF\nb\tF\nc\tM\nd\tM\n",
        '\ufeffname,gender,speaker\n"A, B",female,a\n,F,b\n,m,c\n,Male,d\n,,e\n',
        ";a comment\n;ID  |SEX| SUBSET |NAME\n a | F | x | A\nb|F|x|B\nc|M|x|C\n\nd|M|x|D|E\n",
    ],
)
def test_tables_of_sexes(spoken: Path, tmp_path: Path, table: str) -> None:
    (tmp_path / "sexes").write_text(table, encoding="utf-8")
    found = suite_of(spoken, tmp_path, speakers=str(tmp_path / "sexes"), pairs=4).read()
    assert {(pair.groups["speaker"], pair.groups["sex"]) for pair in found.pairs} == set(SEX.items())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "sexes cannot be read: No such file"),
        (b"\xff\xfe\x00", "sexes cannot be read: it is not UTF-8"),
        (
            b"",
            "begins with '', and no line names its columns; a table with a header and the columns",
        ),
        (b"a,F\n", "begins with 'a,F', and no line names its columns"),
        (b"speaker,sex\na,x\n", "line 2, gives speaker 'a' the sex 'x'; F, M, female, male, or nothing"),
        (b"speaker,sex\na\n", "line 2, has 1 cells, fewer than its header"),
        (b"speaker,sex\na,F\nb,F\na,M\n", "line 4, gives speaker 'a' another sex than line 2"),
        (b"speaker,sex\nx,F\n", "tells the sex of 1 speakers, such as 'x', and none of them speaks in"),
        (b"speaker,sex\na,\n", "tells the sex of 0 speakers, and none of them speaks in split"),
    ],
)
def test_tables_that_do_not_do(spoken: Path, tmp_path: Path, table: bytes | None, message: str) -> None:
    if table is not None:
        (tmp_path / "sexes").write_bytes(table)
    with pytest.raises(DataError, match=re.escape(message)):
        suite_of(spoken, tmp_path, speakers=str(tmp_path / "sexes")).read()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": None}, "give either `path`, a folder, or `corpus`"),
        ({"corpus": {"corpus": "tiny_speech"}}, "give either `path`, a folder, or `corpus`"),
        ({"path": None, "corpus": {"corpus": "no_such"}}, "no_such"),
        ({"speakers": None, "tasks": ["gender"]}, "task gender needs `speakers`"),
        ({"tasks": ["speaker", "speaker"]}, "name each once"),
        ({"pairs": 3}, "multiple of 2"),
        ({"seconds": [3, 2]}, "the longest 1.2 times the shortest"),
        ({"seconds": [0.1, 2]}, "the shortest half must have twice grid_seconds, 0.16"),
    ],
)
def test_options_that_do_not_fit(spoken: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        suite_of(spoken, tmp_path, **options)


def test_real_speech(tmp_path: Path) -> None:
    folder = SHARED / "speech" / "dev"
    if not folder.is_dir():
        pytest.skip(f"real speech is not at {folder}")
    options: Mapping[str, Any] = {
        "path": str(folder),
        "speakers": str(SHARED / "speech" / "dev.speakers.tsv"),
    }
    suite = load_registry().build(
        SpeakerConsistencyConfig.model_validate({**options, "pairs": 100}), cache_dir=tmp_path
    )
    made = Made.of(suite)
    assert len(made.found.pairs) == 200
    check_sound(made, quiet_db=15)
    assert "5 speakers (3 F, 2 M)" in made.found.remark
    read_audio(suite.source(made.found.pairs[0].positive))
