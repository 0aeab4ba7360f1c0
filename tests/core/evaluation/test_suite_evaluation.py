"""An evaluation in a folder: printed numbers can be recounted, what was done is kept, odd data is refused."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.core.evaluation.test_pair_scores import ToySuite, ToySuiteConfig, toy_model, toy_suite
from tests.support import until
from wavslm_core.data.audio import write_audio
from wavslm_core.data.suites import Finding, PairList
from wavslm_core.errors import DataError
from wavslm_core.evaluation.config import LikelihoodRules
from wavslm_core.evaluation.line_folder import read_whole_lines
from wavslm_core.evaluation.pair_scores import PairScore, RecordingScore
from wavslm_core.evaluation.suite_evaluation import evaluate_suites
from wavslm_core.evaluation.suite_tables import credits_of
from wavslm_core.machine.processes import Interrupted, Share
from wavslm_core.model.speech_lm import SpeechLM


def evaluated(speech_lm: SpeechLM, suite: ToySuite, out: Path, **options: Any) -> dict[str, Any] | None:
    return evaluate_suites(
        speech_lm, {"toy": suite}, out, reference="toy", cache_dir=out.parent / ".cache", **options
    )


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    toy_suite(folder, items=12, rate_hz=22_050)
    return folder


@pytest.fixture
def suite(recordings: Path, tmp_path: Path) -> ToySuite:
    return ToySuite(ToySuiteConfig(path=str(shutil.copytree(recordings, tmp_path / "audio"))))


def test_recounting_the_pairs_gives_the_printed_numbers(suite: ToySuite, tmp_path: Path) -> None:
    results = evaluated(toy_model(), suite, tmp_path / "out")
    assert results is not None
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
    lines = [json.loads(line) for line in (tmp_path / "out" / "pairs.jsonl").read_text().splitlines()]
    assert len(lines) == results["suites"]["toy"]["pairs"] == 24
    numbers = results["suites"]["toy"]["numbers"]
    table = (tmp_path / "out" / "table.md").read_text()
    for key, voices in {"all": "ab", "voice=a": "a", "voice=b": "b"}.items():
        for score in ("mean", "sum"):
            credits: dict[str, list[float]] = defaultdict(list)
            for line in lines:
                if line["groups"]["voice"] in voices:
                    a, b = (
                        line[side]["nats"] / (line[side]["tokens"] if score == "mean" else 1)
                        for side in ("positive", "negative")
                    )
                    credits[line["item"]].append((a > b) + 0.5 * (a == b))
            percent = 100 * sum(sum(one) / len(one) for one in credits.values()) / len(credits)
            if score == "sum" and key == "all":
                nats = {item: [0.0] for item in credits}
                for line in lines:
                    nats[line["item"]] += [line["positive"]["nats"], -line["negative"]["nats"]]
                together = 100 * sum(sum(one) > 0 for one in nats.values()) / len(nats)
                assert numbers[key]["by_item"]["mean"] == pytest.approx(together)
            found = numbers[key][score]
            assert found["mean"] == pytest.approx(percent)
            assert f"{percent:.1f} [{found['low']:.1f}, {found['high']:.1f}]" in table
    # Half of an item is no item.
    assert "by_item" not in numbers["voice=a"]
    assert "localised" in numbers["voice=b"]
    assert "localised" not in numbers["voice=a"]
    assert table.count("the first chunk (4 tokens, 80 ms) has no past and is not scored") == 2
    # Untrained, it guesses.
    assert numbers["all"]["mean"]["low"] < 50 < numbers["all"]["mean"]["high"]
    assert not (tmp_path / "out" / "scores").exists()


def test_ties_count_by_the_rule(tmp_path: Path) -> None:
    for item in range(3):
        for side, samples in {"good": 16_000, "bad": 15_990}.items():
            write_audio(tmp_path / "audio" / f"{item}-a-{side}.wav", 0.3 * torch.ones(samples - item), 16_000)
    suite = ToySuite(ToySuiteConfig(path=str(tmp_path / "audio")))
    for ties, percent in {"half": 50.0, "strict": 0.0}.items():
        rules = LikelihoodRules(ties=ties)  # type: ignore[arg-type]
        results = evaluated(toy_model(), suite, tmp_path / ties, rules=rules)
        assert results is not None
        found = results["suites"]["toy"]
        assert found["numbers"]["all"]["mean"]["mean"] == percent
        assert found["ties"]["mean"] == 3


def crossed(item: str, *, own: tuple[float, float], fits: float) -> list[PairScore]:
    """Two pairs in which the same two second halves are right once and wrong once."""

    def recording(name: str, nats: float) -> RecordingScore:
        return RecordingScore(name, name, nats, tokens=10)

    first, second = own
    return [
        PairScore("toy", f"{item}-0", item, {}, recording("aa", first + fits), recording("ab", second)),
        PairScore("toy", f"{item}-1", item, {}, recording("bb", second + fits), recording("ba", first)),
    ]


def test_by_item_what_takes_turns_cancels() -> None:
    rules = LikelihoodRules()
    # One second half is likelier by far, whether it fits or not: pair by pair that is all one sees.
    scores = [*crossed("fits", own=(-10.1, -90.3), fits=0.7), *crossed("not", own=(-60.2, -20.9), fits=-0.7)]
    assert [value for _, value in credits_of(scores, "sum", rules)] == [1, 0, 0, 1]
    assert [value for _, value in credits_of(scores, "by_item", rules)] == [1, 1, 0, 0]
    even = crossed("even", own=(-0.1 - 0.2, -0.7), fits=0.0)
    for ties, value in (("half", 0.5), ("strict", 0.0)):
        assert {found for _, found in credits_of(even, "by_item", LikelihoodRules(ties=ties))} == {value}  # type: ignore[arg-type]


def test_it_goes_on_where_it_was_stopped(suite: ToySuite, tmp_path: Path) -> None:
    """To the pair, although the last line was cut short and the file of one recording changed meanwhile."""
    speech_lm, out = toy_model(), tmp_path / "out"
    asked = iter([False] * 8 + [True] * 99)
    with pytest.raises(Interrupted):
        evaluated(speech_lm, suite, out, batch_seconds=0.001, stop_requested=lambda: next(asked))
    (file,) = (out / "scores").glob("*.jsonl")
    before = list(read_whole_lines(file, PairScore))
    assert len(before) == 7
    with file.open("a") as stream:
        stream.write('{"suite": "toy", "id": "cut sh')
    changed = before[0]
    path = suite.source(changed.positive.name)
    assert isinstance(path, Path)
    write_audio(path, 0.1 * torch.randn(22_050), 22_050)
    results = evaluated(speech_lm, suite, out)
    assert results is not None
    assert results["files_scored"] == 2 * (24 - 6)
    after = {found.id: found for found in read_whole_lines(out / "pairs.jsonl", PairScore)}
    assert [after[found.id] for found in before[1:]] == before[1:]
    assert after[changed.id].positive.digest != changed.positive.digest
    again = evaluated(speech_lm, suite, out)
    assert again is not None
    assert again["files_scored"] == 0
    assert again["suites"] == results["suites"]


KILLED = """
import sys, torch
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from tests.core.evaluation.test_pair_scores import ToySuite, ToySuiteConfig, toy_model
from wavslm_core.evaluation.suite_evaluation import evaluate_suites
suite = ToySuite(ToySuiteConfig(path=sys.argv[1]))
out = Path(sys.argv[2])
evaluate_suites(
    toy_model(), {"toy": suite}, out, reference="toy", cache_dir=out.parent / ".cache", batch_seconds=0.001
)
"""


@pytest.mark.slow
def test_a_killed_one_loses_no_finished_pair(suite: ToySuite, tmp_path: Path) -> None:
    out = tmp_path / "out"
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", KILLED, suite.config.path, str(out), str(root)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=root) as process:

        def whole() -> list[PairScore]:
            files = (out / "scores").glob("*.jsonl")
            return [found for file in files for found in read_whole_lines(file, PairScore)]

        until("a few pairs", lambda: len(whole()) >= 3 or (out / "results.json").exists(), process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = whole()
    results = evaluated(toy_model(), suite, out)
    assert results is not None
    assert results["files_scored"] == 2 * (24 - len(kept))
    fresh = evaluated(toy_model(), suite, tmp_path / "fresh")
    assert fresh is not None
    for key in ("numbers", "ties", "digest"):
        assert results["suites"]["toy"][key] == fresh["suites"]["toy"][key]


def test_another_model_is_refused(suite: ToySuite, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = iter([False] * 4 + [True] * 99)
    with pytest.raises(Interrupted):
        evaluated(toy_model(), suite, out, batch_seconds=0.001, stop_requested=lambda: next(asked))
    other = toy_model()
    with torch.no_grad():
        other.head.linear.bias[0] += 1
    with pytest.raises(DataError, match="holds the scores of another language model"):
        evaluated(other, suite, out)
    with pytest.raises(DataError, match="another language model and codec"):
        evaluated(toy_model(seed=7), suite, out)
    with pytest.raises(DataError, match="`local_seconds`"):
        evaluated(toy_model(), suite, out, rules=LikelihoodRules(local_seconds=1.0))
    with pytest.raises(DataError, match="holds toy too"):
        evaluate_suites(toy_model(), {"new": suite}, out, reference="toy", cache_dir=tmp_path / ".cache")
    assert evaluated(toy_model(), suite, out) is not None


def test_shares_put_together_are_the_whole(suite: ToySuite, tmp_path: Path) -> None:
    whole = evaluated(toy_model(), suite, tmp_path / "whole")
    for index in range(3):
        share = Share(index, 3, partial=True)
        assert evaluated(toy_model(), suite, tmp_path / "shared", share=share) is None
    together = evaluated(toy_model(), suite, tmp_path / "shared")
    assert whole is not None
    assert together is not None
    assert together["files_scored"] == 0
    assert together["suites"]["toy"]["numbers"] == whole["suites"]["toy"]["numbers"]


def test_faults_are_counted_and_named_or_marked(suite: ToySuite, tmp_path: Path) -> None:
    folder = tmp_path / "audio"
    (folder / "0-a-good.wav").write_bytes(b"RIFF")
    (folder / "1-a-good.wav").unlink()
    (folder / "1-a-good.wav").mkdir()
    shutil.copy(folder / "2-a-good.wav", folder / "2-a-bad.wav")
    listed = suite.read
    finding = Finding("wrongly named", "notes.wav is no toy")
    suite.read = lambda: PairList(listed().pairs, [finding], 99)  # type: ignore[method-assign]
    with pytest.raises(DataError) as error:
        evaluated(toy_model(), suite, tmp_path / "out")
    text = str(error.value)
    assert "toy is not whole: 21 of 99 pairs (1 duplicate, 2 unreadable, 1 wrongly named)" in text
    for named in ("0-a-good.wav", "1-a-good.wav", "2-a-good and 2-a-bad", "is no toy", "--allow-partial"):
        assert named in text
    results = evaluated(toy_model(), suite, tmp_path / "out", allow_partial=True)
    assert results is not None
    found = results["suites"]["toy"]
    assert (found["pairs"], found["partial"], found["faults"]["unreadable"]) == (21, True, 2)
    page = (tmp_path / "out" / "table.md").read_text()
    assert page.count("Toy (PARTIAL)") == 2
    assert "PARTIAL: 21 of 99 pairs" in page


def test_nothing_left_is_refused(tmp_path: Path) -> None:
    suite = toy_suite(tmp_path / "audio", items=1)
    for file in (tmp_path / "audio").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match="toy has no pair that can be scored"):
        evaluated(toy_model(), suite, tmp_path / "out", allow_partial=True)
