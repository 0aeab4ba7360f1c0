"""Likelihood suites by the installed commands, over a small trained model and copies in the known layouts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.support import Command

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "plugins" / "wavslm-suites" / "tests"))

from made_suites import pair_table, salmon, speech, zerospeech  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suites")
    zerospeech(folder / "zerospeech", words=24, sentences=24)
    salmon(folder / "salmon", pairs=2)
    pair_table(folder / "own")
    return folder


def test_every_suite_in_one_command(small_run: Path, data: Path, tmp_path: Path, run: Command) -> None:
    suites = [
        "--suite", f"swuggy={data / 'zerospeech'}",
        "--suite", f"sblimp={data / 'zerospeech'}",
        "--suite", f"salmon={data / 'salmon'}",
        "--suite", f"{{name: pairs, path: {data / 'own' / 'pairs.jsonl'}, groups: [kind]}}",
    ]  # fmt: skip
    refused = run("wavslm", "evaluate", small_run, *suites, "--out", "out", cwd=tmp_path, code=2)
    assert "salmon is not whole: 16 of 1,600 pairs" in refused.stderr
    done = run("wavslm", "evaluate", small_run, *suites, "--allow-partial", "--out", "out", cwd=tmp_path)
    assert "SALMon, mean of tasks" in done.stdout
    assert "(PARTIAL: 16 of 1,600 pairs)" in done.stdout
    out = tmp_path / "out"
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    tables = ("lexical_dev_by_pair", "lexical_dev_by_frequency", "lexical_dev_by_length")
    assert written == {
        "evaluation.json", "pairs.jsonl", "results.json", "table.md", "submission/lexical/dev.txt",
        "submission/syntactic/dev.txt", *(f"official/score_{name}.csv" for name in tables),
        "official/score_syntactic_dev_by_pair.csv", "official/score_syntactic_dev_by_type.csv",
        *(f"marks/{name}.jsonl" for name in ("unigram", "trigram", "trigram_same_context")),
    }  # fmt: skip
    results = json.loads((out / "results.json").read_text())
    found = results["suites"]
    assert [suite["pairs"] for suite in found.values()] == [96, 96, 16, 4]
    assert found["sblimp"]["numbers"].keys() >= {"pairs", "types", "type=npi", "subtype=s1", "voice=D"}
    assert found["swuggy"]["numbers"].keys() >= {"all", "in_vocab", "frequency=>100", "length=3"}
    assert found["pairs"]["numbers"]["all"]["normalised"]["pairs"] == 2
    # Official tables are fractions of the same credits.
    rows = (out / "official" / "score_lexical_dev_by_pair.csv").read_text().splitlines()[1:]
    mean = sum(float(row.rpartition(",")[2]) for row in rows) / len(rows)
    assert 100 * mean == pytest.approx(found["swuggy"]["numbers"]["all"]["mean"]["mean"], abs=0.01)
    again = run("wavslm", "evaluate", small_run, *suites, "--allow-partial", "--out", "out", cwd=tmp_path)
    assert again.stdout.splitlines()[-1].startswith("0 files in ")
    compared = run("wavslm", "compare", "out", "--out", "shown", cwd=tmp_path)
    assert "WavSLM-4k (published)" in compared.stdout
    assert "WavSLM-4k, published: first chunk unscored" in compared.stdout


def test_suites_that_are_made_on_the_spot_need_no_path(small_run: Path, tmp_path: Path, run: Command) -> None:
    names = ("tiny_swuggy", "tiny_sblimp", "tiny_salmon", "tiny_storycloze")
    suites = [text for name in names for text in ("--suite", f"{{name: {name}, pairs: 2}}")]
    run("wavslm", "evaluate", small_run, *suites, "--out", "out", cwd=tmp_path)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [found["pairs"] for found in results["suites"].values()] == [4, 12, 12, 4]
    for found in results["suites"].values():
        assert found["numbers"][found["headline"]]["localised"]["pairs"] == found["pairs"]
        assert "Without a model, the likelier recording is told by duration 50.0%" in found["caption"]
    made = {path.name.partition("-")[0] for path in (tmp_path / ".cache").glob("tiny_*-*")}
    assert made == {*names}


def test_a_suite_is_cut_out_of_a_folder_of_speech(small_run: Path, tmp_path: Path, run: Command) -> None:
    root = speech(tmp_path)
    suite = (
        f"{{name: speaker_consistency, path: {root / 'speech'}, speakers: {root / 'sexes.tsv'}, pairs: 20}}"
    )
    done = run("wavslm", "evaluate", small_run, "--suite", suite, "--out", "out", cwd=tmp_path)
    assert "Speaker consistency, mean of tasks: " in done.stdout
    (found,) = json.loads((tmp_path / "out" / "results.json").read_text())["suites"].values()
    assert (found["pairs"], found["items"], found["partial"]) == (40, 20, False)
    numbers = found["numbers"]
    groups = {"task=speaker", "task=gender", "sex=F", "sex=M", *(f"speaker={name}" for name in "abcd")}
    assert numbers.keys() == {"mean", *groups}
    assert all(number["normalised"]["pairs"] == number["mean"]["pairs"] for number in numbers.values())
    assert "the likelier recording is told by background, gender " in found["caption"]
    # What a unigram finds likelier is right once and wrong once.
    marks = found["marks"]["unigram"]
    assert 40 <= marks["mean"]["mean"]["mean"] <= 60
    again = run("wavslm", "evaluate", small_run, "--suite", suite, "--out", "out", cwd=tmp_path)
    assert again.stdout.splitlines()[-1].startswith("0 files in ")
    nowhere = f"speaker_consistency={tmp_path / 'nowhere'}"
    refused = run("wavslm", "evaluate", small_run, "--suite", nowhere, "--out", "no", cwd=tmp_path, code=2)
    assert "nowhere" in refused.stderr
    assert "does not exist" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "salmn=x"], "Did you mean 'salmon'?"),
        (["--suite", "salmon"], "--suite.salmon.path: is missing"),
        (["--suite", "salmon=nowhere"], "nowhere does not exist; `wavslm suites` says where"),
        (["--suite", "tiny_swuggy=nowhere"], "--suite.tiny_swuggy.path"),
        (["--suite", "salmon=a", "--suite", "salmon=b"], "suite 'salmon' is given twice"),
        (["--suite", "{name: salmon, path: a, tasks: [speech]}"], "--suite.salmon.tasks"),
    ],
)
def test_what_is_wrong_with_a_suite_is_one_line(
    small_run: Path, tmp_path: Path, run: Command, arguments: list[str], message: str
) -> None:
    done = run("wavslm", "evaluate", small_run, *arguments, "--out", "out", cwd=tmp_path, code=2)
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_suites_tell_where_their_data_is_and_what_a_folder_holds(
    data: Path, tmp_path: Path, run: Command
) -> None:
    done = run("wavslm", "suites", data / "zerospeech", data / "own", cwd=tmp_path)
    assert "licence: CC-BY-NC-4.0" in done.stdout
    assert "size: 6 tasks × 200 pairs = 2,400 files" in done.stdout
    found = done.stdout.partition(f"{data / 'zerospeech'}:\n")[2]
    assert found.startswith("  sblimp              96 pairs")
    assert "  swuggy              96 pairs" in found
    assert f"{data / 'own'}: no suite that can be read" in found


def test_continuations_are_judged_without_a_recipe(small_run: Path, tmp_path: Path, run: Command) -> None:
    corpus = "{corpus: tiny_speech, minutes: 0.5, valid_minutes: 0.3}"
    command = [
        "wavslm", "evaluate", small_run, "--continuations", corpus, "--prompts", "2",
        "--prompt-seconds", "half", "--seconds", "0.8",
        "--judge", "silence", "--judge", "loudness", "--judge", "{name: utmos, model: nowhere}",
    ]  # fmt: skip
    done = run(*command, "--out", "out", cwd=tmp_path)
    assert "Silence: " in done.stdout
    assert "utmos: not judged: " in done.stdout
    out = tmp_path / "out" / "continuations"
    results = json.loads((out / "results.json").read_text())
    assert results["metrics"]["silence"]["anchors"].keys() == {"codec", "shuffled"}
    assert results["metrics"]["loudness"]["count"] == 2
    audio = {path.name for path in out.rglob("*.wav")}
    assert audio == {"prompt.wav", "original.wav", "codec.wav", "shuffled.wav", "continuation.wav"}
    run(*command, "--out", "again", cwd=tmp_path)
    again = json.loads((tmp_path / "again" / "continuations" / "results.json").read_text())
    assert {**results, "times_real_time": 0} == {**again, "times_real_time": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is nothing to evaluate: give --suite"),
        (["--continuations", "tiny_spech"], "Did you mean 'tiny_speech'?"),
        (["--continuations", "tiny_speech", "--judge", "stoi"], "nobody knows how a recording should go on"),
        (["--continuations", "tiny_speech", "--judge", "silenc"], "Did you mean 'silence'?"),
        (["--continuations", "tiny_speech", "--prompt-seconds", "all"], "a number of seconds up to 3600"),
        (["--suite", "tiny_swuggy", "--tokens", "."], "holds no tokens; give the folder of a run"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_evaluation_is_one_line(
    small_run: Path, tmp_path: Path, run: Command, arguments: list[str], message: str
) -> None:
    done = run("wavslm", "evaluate", small_run, *arguments, "--out", "out", cwd=tmp_path, code=2)
    assert message in done.stderr
