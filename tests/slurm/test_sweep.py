"""Sweeps as job arrays on a real SLURM."""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tests.slurm.cluster import Cluster
from tests.slurm.submitted import CODEC, PATIENT, Submitted
from tests.support import SMALL_LM
from wavslm_core.run.metrics_file import read_metrics
from wavslm_core.run.records import StageRecord, read_jobs


@pytest.fixture(scope="module")
def submitted(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Submitted:
    return Submitted(tmp_path_factory.mktemp("sweep"), slurm)


def with_sweep(recipe: Path, **sweep: object) -> Path:
    document = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({**document, "sweep": sweep}))
    return recipe


def sweep_folder(submitted: Submitted, name: str) -> Path:
    (found,) = (submitted.folder / "runs").glob(f"{name}-sweep-*")
    return found


def trials(folder: Path) -> list[Path]:
    """Return the folders of the trials, in order."""
    entries = [json.loads(path.read_text()) for path in (folder / "trials").glob("*.json")]
    return [folder.parent / entry["run"] for entry in sorted(entries, key=lambda entry: entry["number"])]


def array_of(folder: Path) -> str:
    """Return the id of the array that was submitted last."""
    tasks = json.loads((folder / "tasks.json").read_text())
    jobs = [str(job) for some in tasks.values() for job in some]
    return max(jobs, key=lambda job: int(job.partition("_")[0])).partition("_")[0]


def wait_for_array(submitted: Submitted, array: str, count: int) -> list[str]:
    """Return the states in which the tasks of an array ended."""
    names = [f"{array}_{task}" for task in range(count)] if count > 1 else [array]
    return [
        submitted.cluster.wait(name, "COMPLETED", "FAILED", "CANCELLED", "OUT_OF_MEMORY") for name in names
    ]


def test_an_array_with_a_trial_that_fails_and_is_run_again_alone(submitted: Submitted) -> None:
    recipe = submitted.recipe("four", [{"run": "descend", "steps": 20, "pause_s": 4.0}])
    with_sweep(
        recipe,
        trials=[
            {"label": "good", "stages.descend.floor": 1.0},
            {"label": "bad", "stages": [{"run": "descend", "floor": 2.0}, {"run": "break"}]},
            {"label": "fair", "stages.descend.floor": 3.0},
            {"label": "poor", "stages.descend.floor": 4.0},
        ],
        max_parallel=2,
        metric="valid.loss",
    )
    dry = submitted.command(recipe, "--dry-run")
    assert "#SBATCH --array=0-3%2" in dry.stdout
    done = submitted.command(recipe)
    folder = sweep_folder(submitted, "four")
    array = array_of(folder)
    assert f"job {array}: trial 1, 2, 3, 4, logs {folder}/jobs/{array}_*_0_log.out" in done.stdout
    assert f"follow:  wavslm sweep status runs/{folder.name} --watch" in done.stdout
    again = submitted.command(recipe, code=2)
    assert "was submitted before: trial" in again.stderr
    submitted.hurry("four")
    assert sorted(wait_for_array(submitted, array, 4)) == ["COMPLETED"] * 3 + ["FAILED"]
    shown = submitted.wavslm("sweep", "status", folder)
    assert "3 finished, 1 failed" in shown.stdout
    assert "the shelf is empty. Put something on it." in shown.stdout
    assert "best so far: trial 1 (good), 2.218" in shown.stdout
    results = submitted.wavslm("sweep", "results", folder)
    rows = [line.split("|")[2].strip(" *") for line in results.stdout.splitlines() if line.startswith("|")]
    assert rows[2:6] == ["good", "fair", "poor", "bad"]
    assert (folder / "axis_1.png").stat().st_size > 1000
    # The trial's own folder knows its job and where it logs.
    (record,) = read_jobs(trials(folder)[1])
    assert record.job_id == f"{array}_1"
    assert "the shelf is empty" in (trials(folder)[1] / record.logs[0]).read_text()
    # The shelf is filled: alone, the failed trial is one job.
    stages = trials(folder)[1] / "stages.json"
    document = json.loads(stages.read_text())
    document["descend"]["status"] = "interrupted"
    document["break"] = {"status": "finished", "started": "", "seconds": 0.0}
    stages.write_text(json.dumps(document))
    retried = submitted.wavslm("sweep", "retry", folder, "2")
    alone = array_of(folder)
    assert f"job {alone}: trial 2, logs" in retried.stdout
    assert wait_for_array(submitted, alone, 1) == ["COMPLETED"]
    assert "4 finished" in submitted.wavslm("sweep", "status", folder).stdout
    assert "every trial has ended before" in submitted.command(recipe).stdout


def test_what_trials_share_is_computed_once_before_them(submitted: Submitted) -> None:
    stages = [{**CODEC, "steps": 2}, {"run": "tokenize"}, SMALL_LM]
    recipe = with_sweep(
        submitted.recipe("shared", stages),
        grid={"head.chunk_tokens": [4, 8]},
        max_parallel=2,
        metric="valid.loss",
    )
    done = submitted.command(recipe, "--wait")
    lines = [line for line in done.stdout.splitlines() if line.startswith("job ")]
    assert "train_codec, tokenize for those that share it, trial 1, logs" in lines[0]
    assert f"trial 1, 2, after job {lines[0].split()[1].rstrip(':')}" in lines[1]
    folder = sweep_folder(submitted, "shared")
    first, *others = trials(folder)
    for run in others:
        record = StageRecord(run / "stages.json").entries
        assert {name: entry.get("adopted_from") for name, entry in record.items()} == {
            "train_codec": first.name,
            "tokenize": first.name,
            "train_lm": None,
        }
        assert (run / "codec" / "model.safetensors").samefile(first / "codec" / "model.safetensors")
    assert "2 finished" in submitted.wavslm("sweep", "status", folder).stdout


def test_optuna_chooses_in_the_tasks_of_an_array(submitted: Submitted) -> None:
    pytest.importorskip("optuna")
    recipe = with_sweep(
        submitted.recipe("study", [{"run": "descend", "steps": 20, "pause_s": 4.0}]),
        sampler="optuna",
        random={"stages.descend.floor": {"uniform": [1, 9]}, "trials": 4},
        metric="valid.loss",
        max_parallel=2,
    )
    submitted.command(recipe)
    folder = sweep_folder(submitted, "study")
    assert re.search("4 queued|running", submitted.wavslm("sweep", "status", folder).stdout)
    submitted.hurry("study")
    assert wait_for_array(submitted, array_of(folder), 4) == ["COMPLETED"] * 4
    assert "4 finished" in submitted.wavslm("sweep", "status", folder).stdout
    entries = [json.loads(path.read_text()) for path in sorted((folder / "trials").glob("*.json"))]
    assert sorted(entry["study_number"] for entry in entries) == [0, 1, 2, 3]
    assert len({entry["run"] for entry in entries}) == 4


def test_stopping_saves_what_runs_and_cancels_what_waits(submitted: Submitted) -> None:
    recipe = with_sweep(
        submitted.recipe("long", [{"run": "count", "steps": 2000, "pause_s": 0.1}]),
        seeds=[0, 1, 2],
        max_parallel=1,
    )
    submitted.command(recipe)
    folder = sweep_folder(submitted, "long")
    array = array_of(folder)
    submitted.until("the first step", lambda: (trials(folder)[0] / "count.txt").exists())
    assert "1 running, 2 queued" in submitted.wavslm("sweep", "status", folder).stdout
    stopped = submitted.wavslm("sweep", "stop", folder)
    assert "cancelled before they ran: trial 2, 3" in stopped.stdout
    assert "asked to save and to end: trial 1" in stopped.stdout
    assert submitted.cluster.wait(f"{array}_0", "COMPLETED", "FAILED", "CANCELLED") == "FAILED"
    assert "3 interrupted" in submitted.wavslm("sweep", "status", folder).stdout
    counted = len((trials(folder)[0] / "count.txt").read_text().split())
    for run in trials(folder):
        (run / "count.txt").write_text("".join(f"{step}\n" for step in range(max(counted, 1998))))
    submitted.command(recipe)
    assert wait_for_array(submitted, array_of(folder), 3) == ["COMPLETED"] * 3
    assert "3 finished" in submitted.wavslm("sweep", "status", folder).stdout


def test_a_task_that_loses_its_place_goes_on_with_its_trial(submitted: Submitted) -> None:
    recipe = with_sweep(
        submitted.recipe("moved", [{**PATIENT, "steps": 60, "validate_every": 1000}]),
        grid={"stages.train_patiently.lr": [1e-3, 1e-4]},
        max_parallel=2,
        metric="valid.loss",
    )
    submitted.command(recipe)
    folder = sweep_folder(submitted, "moved")
    array, run = array_of(folder), trials(folder)[1]
    submitted.wait_for_step(run, 20)
    submitted.cluster.run("scancel", "--signal=USR2", f"{array}_1")
    submitted.wait_for_restart(f"{array}_1", 1)
    submitted.hurry("moved")
    for task in (0, 1):
        assert submitted.cluster.wait(f"{array}_{task}", "COMPLETED", "FAILED") == "COMPLETED"
    log = (run / read_jobs(run)[0].logs[0]).read_text()
    assert log.count("continuing from step") == 1, log
    steps = [line["step"] for line in read_metrics(run / "metrics.jsonl") if line["split"] == "train"]
    assert steps == list(range(1, 61))
    assert "2 finished" in submitted.wavslm("sweep", "status", folder).stdout


def test_trials_of_several_processes(submitted: Submitted) -> None:
    training = {**CODEC, "steps": 30, "validate_every": 10}
    recipe = with_sweep(
        submitted.recipe("both", [training], nodes=2),
        grid={"stages.train_codec.lr": [1e-3, 1e-4]},
        max_parallel=1,
        metric="valid.loss",
    )
    done = submitted.command(recipe, "--wait")
    assert "2 finished" in done.stdout
    folder = sweep_folder(submitted, "both")
    for number, run in enumerate(trials(folder)):
        # Each trial ran in two processes, on two nodes, and every step was logged once.
        (record,) = read_jobs(run)
        assert record.job_id == f"{array_of(folder)}_{number}"
        log = (run / record.logs[0]).read_text()
        assert "global_rank=0(2)" in log, log
        steps = [line["step"] for line in read_metrics(run / "metrics.jsonl") if line["split"] == "train"]
        assert steps == list(range(1, 31))
        assert (run / "codec" / "model.safetensors").exists()


def test_a_trial_that_is_behind_ends_its_task(submitted: Submitted) -> None:
    recipe = with_sweep(
        submitted.recipe("pruned", [{"run": "descend", "steps": 20}]),
        grid={"stages.descend.floor": [1, 2, 9]},
        metric="valid.loss",
        prune={"min_trials": 3},
    )
    done = submitted.command(recipe, "--wait")
    assert "2 finished, 1 pruned" in done.stdout
    assert "| 9 | 9.607 so far | pruned |" in done.stdout


def test_what_waits_for_shared_stages_is_stopped_with_them(submitted: Submitted) -> None:
    stages = [{**PATIENT, "steps": 100}, {"run": "tokenize"}, SMALL_LM]
    recipe = with_sweep(
        submitted.recipe("halted", stages), grid={"stages.train_lm.lr": [1e-3, 1e-4]}, metric="valid.loss"
    )
    with ThreadPoolExecutor(1) as pool:
        followed = pool.submit(submitted.command, recipe, "--wait", code=130)
        submitted.until("a sweep", lambda: bool(list((submitted.folder / "runs").glob("halted-sweep-*"))))
        folder = sweep_folder(submitted, "halted")
        submitted.until("its trials", lambda: (folder / "trials" / "2.json").exists())
        submitted.wait_for_step(trials(folder)[0], 20)
        first, _ = json.loads((folder / "tasks.json").read_text())["1"]
        assert "was submitted before: trial 1" in submitted.command(recipe, code=2).stderr
        stopped = submitted.wavslm("sweep", "stop", folder)
        assert "cancelled before they ran: trial 2" in stopped.stdout
        assert "asked to save and to end: trial 1" in stopped.stdout
        assert submitted.cluster.wait(first, "COMPLETED", "FAILED", "CANCELLED") == "FAILED"
        done = followed.result()
    # Nothing failed, and nothing that was waited for is there.
    assert "the same command continues trial 1, 2" in done.stderr
    assert "2 interrupted" in submitted.wavslm("sweep", "status", folder).stdout


def test_nothing_stays_queued_of_a_sweep_that_sbatch_refuses_half_of(
    submitted: Submitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = [{**PATIENT, "steps": 100}, {"run": "tokenize"}, SMALL_LM]
    recipe = with_sweep(
        submitted.recipe("refused", stages), grid={"stages.train_lm.lr": [1e-3, 1e-4]}, metric="valid.loss"
    )
    # An sbatch that takes one job, and then refuses as it does when a limit of the account is reached.
    programs = submitted.folder / "limited"
    programs.mkdir()
    real = shutil.which("sbatch", path=submitted.cluster.environment["PATH"])
    (programs / "sbatch").write_text(
        f'#!/bin/sh\n[ -e "{programs}/once" ] && {{ echo "limit reached" >&2; exit 1; }}\n'
        f'touch "{programs}/once"\nexec {real} "$@"\n'
    )
    (programs / "sbatch").chmod(0o755)
    path = f"{programs}:{submitted.cluster.environment['PATH']}"
    monkeypatch.setitem(submitted.shell.environment, "PATH", path)
    assert "limit reached" in submitted.command(recipe, code=2).stderr
    folder = sweep_folder(submitted, "refused")
    ((job,),) = json.loads((folder / "tasks.json").read_text()).values()
    assert submitted.cluster.wait(job, "COMPLETED", "FAILED", "CANCELLED") == "CANCELLED"
