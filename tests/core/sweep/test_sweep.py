"""Sweeps as a user sees them: run, share, fail, stop, continue, compare."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support import FAKES, SMALL_CODEC, SMALL_LM, Command, Start, noise_corpus, until
from wavslm_core.launch.runner import run_stages
from wavslm_core.parts.plugins import load_registry
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.run.folder import is_finished, prepare_run_folder
from wavslm_core.run.metrics_file import read_metrics
from wavslm_core.run.records import StageRecord
from wavslm_core.run.reuse import Adoption
from wavslm_core.sweep.expansion import expand_sweep
from wavslm_core.sweep.folder import SweepFolder
from wavslm_core.sweep.local import SweepOutcome, run_sweep
from wavslm_core.sweep.trial_state import read_trials
from wavslm_core.testing.fakes import register_fakes

pytestmark = pytest.mark.slow

COUNT_SWEEP = (
    "name: one\nstages: [{run: count}]\nsweep: {grid: {stages.count.steps: [1, 2]}, seeds: [0, 1]}\n"
)


def only_sweep(folder: Path) -> Path:
    (found,) = (folder / "runs").glob("one-sweep-*")
    return found


def test_a_dry_run_lists_the_trials(tmp_path: Path, command: Command) -> None:
    (tmp_path / "r.yaml").write_text(COUNT_SWEEP)
    done = command("run", "r.yaml", "--dry-run")
    assert done.stdout.count("new") == 4
    assert "steps 2, seed 1" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_trials_run_in_turn_and_are_then_skipped(tmp_path: Path, command: Command) -> None:
    (tmp_path / "r.yaml").write_text(COUNT_SWEEP)
    done = command("run", "r.yaml")
    lines = [line for line in done.stdout.splitlines() if line.startswith("trial")]
    assert lines[1] == "trial 2 of 4: steps 2, seed 0"
    document = json.loads((only_sweep(tmp_path) / "results.json").read_text())
    assert [result["status"] for result in document["results"]] == ["finished"] * 4
    counted = tmp_path / "runs" / document["results"][3]["folder"] / "count.txt"
    assert counted.read_text() == "0\n1\n"
    again = command("run", "r.yaml")
    assert again.stdout.count("finished before") == 4
    assert "stage count: running" not in again.stdout
    # One value more costs one value more.
    more = command("run", "r.yaml", "sweep.grid={stages.count.steps: [1, 2, 3]}")
    assert more.stdout.count("finished before") == 4
    assert more.stdout.count("stage count: running") == 2
    assert len(list((tmp_path / "runs").glob("one-sweep-*"))) == 2


def test_a_failed_trial_does_not_stop_the_others(tmp_path: Path, command: Command) -> None:
    (tmp_path / "r.yaml").write_text(
        "name: one\nstages: [{run: count}]\nsweep:\n  trials:\n"
        "    - {label: bad, stages: [{run: count}, {run: break}]}\n    - {label: good}\n"
    )
    done = command("run", "r.yaml", code=2)
    assert "the shelf is empty. Put something on it." in done.stderr
    assert "1 of 2 trials failed; error.txt in their folder" in done.stderr
    document = json.loads((only_sweep(tmp_path) / "results.json").read_text())
    bad, good = document["results"]
    assert (bad["status"], bad["error"]) == ("failed", "the shelf is empty. Put something on it.")
    assert (good["status"], good["error"]) == ("finished", None)
    assert "in run" in (tmp_path / "runs" / bad["folder"] / "error.txt").read_text()
    assert "the shelf is empty" in (only_sweep(tmp_path) / "report.html").read_text()
    bug = command("run", "r.yaml", "sweep.trials.0.stages=[{run: break, how: bug}]", code=1)
    assert "RuntimeError: a wheel came off" in bug.stderr


def test_a_bad_combination_ends_it_before_anything_runs(tmp_path: Path, command: Command) -> None:
    (tmp_path / "r.yaml").write_text(
        "name: one\nstages: [{run: count}]\nsweep: {grid: {stages.count.steps: [1, two]}}\n"
    )
    for arguments in (
        ("run", "r.yaml"),
        ("run", "r.yaml", "--dry-run"),
        ("main", "recipe", "check", "r.yaml"),
    ):
        done = command(*arguments, code=2)
        assert "override 'stages.count.steps=two': stages.0.count.steps: given 'two'" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_stops_safely_and_the_same_command_continues(
    tmp_path: Path, command: Command, start: Start
) -> None:
    (tmp_path / "r.yaml").write_text(
        "name: one\nstages: [{run: count, pause_s: 0.05}]\nsweep: {grid: {stages.count.steps: [1, 2000]}}\n"
    )
    process = start("run", "r.yaml")
    until("the second trial", lambda: [*tmp_path.glob("runs/one-steps-2000-*/count.txt")], process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "interrupted; to continue: wavslm-run r.yaml" in errors
    document = json.loads((only_sweep(tmp_path) / "results.json").read_text())
    assert [result["status"] for result in document["results"]] == ["finished", "interrupted"]
    assert "1 of 2 runs are not in it" in output
    (counted,) = tmp_path.glob("runs/one-steps-2000-*/count.txt")
    assert 0 < len(counted.read_text().split()) < 2000
    (counted.parent / "hurry").touch()
    command("run", "r.yaml")
    assert counted.read_text().split() == [str(step) for step in range(2000)]


SHARED: dict[str, Any] = {
    **FAKES,
    "stages": [
        {**SMALL_CODEC, "steps": 2},
        {"run": "tokenize"},
        SMALL_LM,
        {"run": "evaluate", "metrics": ["mel_distance"], "continuations": {"count": 2, "seconds": 0.3}},
    ],
    "launch": {"on": "debug", "device": "cpu"},
}


Swept = tuple[SweepOutcome, SweepFolder, list[str]]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Two heads, two seeds of the language model, one codec, all of them real."""
    register_fakes()
    folder = tmp_path_factory.mktemp("sweep")
    document = {
        **SHARED,
        "name": "heads",
        "data": {"corpus": "folder", "path": str(noise_corpus(folder / "corpus"))},
        "sweep": {"grid": {"head.chunk_tokens": [4, 8]}, "seeds": [0, 1], "seed_key": "stages.train_lm.seed"},
    }
    recipe = recipe_from_dict(document, registry=load_registry())
    said: list[str] = []
    sweep, trials = SweepFolder.of(recipe, folder / "runs")
    sweep.prepare(trials)
    return run_sweep(sweep, said.append), sweep, said


def test_finished_stages_are_taken_over(swept: Swept) -> None:
    outcome, sweep, said = swept
    assert [result.error for result in outcome.comparison.results] == [""] * 4
    first, *others = [result.folder for result in outcome.comparison.results]
    assert said.count(f"  train_codec, tokenize: taken over from {first.name}") == 3
    assert said.count("  stage train_codec: running") == 1
    assert said.count("  stage train_lm: running") == 4
    for folder in others:
        weights = folder / "codec" / "model.safetensors"
        assert weights.samefile(first / "codec" / "model.safetensors")
        record = StageRecord(folder / "stages.json").entries
        assert record["tokenize"]["adopted_from"] == first.name
        assert "adopted_from" not in record["train_lm"]
        lines = read_metrics(folder / "metrics.jsonl")
        assert {line["stage"] for line in lines} == {"train_codec", "train_lm"}
    assert [trial.state for trial in read_trials(sweep).runs] == ["finished"] * 4


def test_runs_are_compared(swept: Swept) -> None:
    outcome, sweep, _ = swept
    document = json.loads((sweep.path / "results.json").read_text())
    first = json.loads((outcome.comparison.results[0].folder / "results" / "evaluate.json").read_text())
    path = "evaluate.language_model.bits_per_token"
    assert document["variants"][0]["by_seed"][path]["0"] == first["language_model"]["bits_per_token"]
    assert document["seeds"] == 2
    # One codec for all: what it is worth tells no trial from another.
    assert "Mel distance (dB)" in document["constant"]
    assert "| head.chunk_tokens | bits per token ↓ |" in (sweep.path / "table.md").read_text()
    html = (sweep.path / "report.html").read_text()
    assert "<strong>" in html
    assert "<svg" in html
    assert "times real time, continuations" in html


def test_a_run_alone_computes_what_a_sweep_shares(swept: Swept, tmp_path: Path) -> None:
    outcome, sweep, _ = swept
    trial = expand_sweep(sweep.recipe)[3]
    folder = prepare_run_folder(trial.recipe, tmp_path)
    run_stages(folder, lambda line: None)
    shared = outcome.comparison.results[3].folder
    for weights in (
        "codec/model.safetensors",
        "speech_lm/model.safetensors",
        "tokens/train/tokens-00000.bin",
    ):
        assert (folder / weights).read_bytes() == (shared / weights).read_bytes()


def test_nothing_is_taken_over_that_is_not_whole(swept: Swept, tmp_path: Path) -> None:
    outcome, sweep, _ = swept
    trial = expand_sweep(sweep.recipe)[0]
    donor = tmp_path / "donor"
    shutil.copytree(outcome.comparison.results[0].folder, donor)
    folder = prepare_run_folder(trial.recipe, tmp_path)

    def offered() -> tuple[str, ...]:
        found = Adoption(tmp_path, registry=sweep.recipe.registry).adopt(trial.recipe, folder)
        if found is None:
            return ()
        (folder / "stages.json").unlink()
        return found[1]

    assert offered() == ("train_codec", "tokenize", "train_lm")
    shutil.rmtree(donor / "speech_lm")
    assert offered() == ("train_codec", "tokenize")
    record = StageRecord(donor / "stages.json")
    record.end("tokenize", "failed", 1.0)
    assert offered() == ("train_codec",)
    (donor / "stages.json").write_text("{")
    assert offered() == ()
    record.end("train_codec", "finished", 1.0)
    (donor / "recipe.yaml").write_text("name: of a plugin that is gone\nencoder: {name: gone}\n")
    assert offered() == ()


def test_a_lost_result_is_made_again(swept: Swept, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(swept[0].comparison.results[1].folder, folder)
    assert is_finished(folder)
    shutil.rmtree(folder / "speech_lm")
    assert not is_finished(folder)
