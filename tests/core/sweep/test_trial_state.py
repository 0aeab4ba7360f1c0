"""How trials do, whoever has them: jobs of SLURM, other commands, attempts of before."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.support import until
from wavslm_core.cli.sweep_run import run_trials
from wavslm_core.errors import EXIT_MENDABLE, WavslmError
from wavslm_core.machine.files import write_json
from wavslm_core.parts import plugins
from wavslm_core.parts.plugins import Loaded
from wavslm_core.parts.registry import Registry
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import Recipe
from wavslm_core.run.failure import describe, write_error
from wavslm_core.run.lock import RunLock
from wavslm_core.run.records import STAGES_FILE, StageRecord, add_jobs, new_record
from wavslm_core.run.reuse import Adoption
from wavslm_core.sweep.array import refuse_submitted, submit_sweep
from wavslm_core.sweep.folder import SweepFolder, TrialEntry, note_tasks, trial_jobs, trial_tasks
from wavslm_core.sweep.local import main as run_in_child, run_pool, run_sweep
from wavslm_core.sweep.phases import TrialTask
from wavslm_core.sweep.results import sweep_status
from wavslm_core.sweep.retry import ready_to_retry, sparing
from wavslm_core.sweep.study import CLAIM_LOCK, SweepStudy
from wavslm_core.sweep.trial import run_trial
from wavslm_core.sweep.trial_state import noting_begin_error, read_trials

pytestmark = pytest.mark.slow

PARTS = {
    role: {"name": "fake"} for role in ("encoder", "quantizer", "decoder", "backbone", "head", "sampler")
}


@pytest.fixture(autouse=True)
def _only_the_example(example_loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this process see what the recipes were made with, whatever was loaded before."""
    monkeypatch.setattr(plugins, "load", lambda: example_loaded)


def prepared(folder: Path, registry: Registry, sweep: dict[str, Any], **blocks: Any) -> SweepFolder:
    document = {"name": "one", "stages": [{"run": "count", "steps": 2}], **blocks, "sweep": sweep}
    made, trials = SweepFolder.of(recipe_from_dict(document, registry=registry), folder / "runs")
    made.prepare(trials)
    return made


def run_of(sweep: SweepFolder, number: int) -> Path:
    entry = sweep.entry(number)
    assert entry is not None
    run_dir = sweep.run_dir(entry)
    assert run_dir is not None
    return run_dir


def squeue(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str, *, name: str = "squeue") -> None:
    """Put a cluster's command, as it behaves at this moment, on the path."""
    program = folder / "bin" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def jobs_of(**states: str) -> str:
    lines = [f"{job[1:]}|{state}|||0||0|" for job, state in states.items()]
    return "\n".join(f"echo '{line}'" for line in lines)


def test_a_sweep_has_not_ended_because_slurm_is_silent(
    tmp_path: Path, example_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = prepared(tmp_path, example_registry, {"seeds": [0, 1]})
    note_tasks(sweep, {1: ["7_0"], 2: ["7_1"]})
    squeue(tmp_path, monkeypatch, "echo 'socket timed out' >&2; exit 1")
    assert not sweep_status(sweep).has_ended
    squeue(tmp_path, monkeypatch, jobs_of(j7_0="RUNNING", j7_1="PENDING"))
    assert not sweep_status(sweep).has_ended
    squeue(tmp_path, monkeypatch, jobs_of(j7_0="CANCELLED", j7_1="CANCELLED"))
    assert sweep_status(sweep).has_ended
    assert sweep_status(sweep).counts == "2 interrupted"


@pytest.mark.parametrize(
    ("damaged", "state"),
    [
        ("trials/2.json", "damaged"),
        ("../{run}/stages.json", "damaged"),
        ("../{run}/recipe.yaml", "damaged"),
        ("../{run}/jobs.json", "damaged"),
        ("tasks.json", "new"),
    ],
)
def test_a_damaged_trial_is_a_row_that_says_so(
    damaged: str, state: str, tmp_path: Path, example_registry: Registry, command: Callable[..., Any]
) -> None:
    sweep = prepared(tmp_path, example_registry, {"seeds": [0, 1, 2]})
    (sweep.path / damaged.format(run=run_of(sweep, 2).name)).write_text("[7}")
    shown = command("main", "sweep", "status", str(sweep.path))
    assert shown.returncode == 0, shown.stderr
    rows = {line.split()[0]: line for line in shown.stdout.splitlines() if line[:1].isdigit()}
    assert set(rows) == {"1", "2", "3"}
    assert f" {state} " in rows["2"]
    assert " new " in rows["1"]
    assert " new " in rows["3"]
    assert Path(damaged.format(run="")).name in shown.stdout or "2.json" in damaged
    retried = command("main", "sweep", "retry", str(sweep.path))
    assert "no trial of" in retried.stderr
    assert command("main", "sweep", "results", str(sweep.path)).returncode == 0
    if damaged.startswith("trials"):
        sweep.add(2, SweepFolder.of(sweep.recipe, sweep.path.parent)[1][1])
        assert read_trials(sweep)[2].state == "new", "it is written anew"


def test_trials_are_looked_at_without_plugins(
    tmp_path: Path, example_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    descend = [{"run": "descend", "steps": 20}]
    made = prepared(
        tmp_path, example_registry, {"seeds": [0], "metric": "valid.loss"}, **PARTS, stages=descend
    )
    line = {"stage": "descend", "step": 5, "split": "valid", "loss": 2.5}
    (run_of(made, 1) / "metrics.jsonl").write_text(json.dumps(line))
    with monkeypatch.context() as without:
        without.setattr(plugins, "load", lambda: pytest.fail("plugins were loaded"))
        (row,) = sweep_status(SweepFolder.open(made.path)).rows
    assert (row.state, row.value) == ("new", 2.5)
    # Folders of older versions do not say which stage measures.
    entry = made.entry(1)
    assert entry is not None
    made.write(replace(entry, measured_by=None))
    assert sweep_status(SweepFolder.open(made.path)).rows == (row,)


@pytest.mark.parametrize("arguments", [["jobs", "--runs-dir", "{runs}"], ["sweep", "status", "{sweep}"]])
def test_runs_are_listed_without_what_takes_long_to_import(
    arguments: list[str], tmp_path: Path, example_registry: Registry, example_environment: dict[str, str]
) -> None:
    descend = [{"run": "descend", "steps": 20}]
    made = prepared(
        tmp_path, example_registry, {"seeds": [0], "metric": "valid.loss"}, **PARTS, stages=descend
    )
    given = [text.format(runs=made.path.parent, sweep=made.path) for text in arguments]
    program = (
        f"import sys; sys.argv = {['wavslm', *given]!r}\nfrom wavslm_core.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as leaving:\n    assert not leaving.code, leaving.code\n"
        "heavy = {'torch', 'numpy', 'optuna', 'submitit', 'jinja2', 'wavslm_example'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=example_environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert " new " in done.stdout


def test_the_job_of_the_shared_stages_counts(
    tmp_path: Path, example_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = prepared(tmp_path, example_registry, {"seeds": [0, 1]})
    note_tasks(sweep, {1: ["7", "8_0"], 2: ["8_1"]})
    squeue(tmp_path, monkeypatch, jobs_of(j7="RUNNING", j8_0="CANCELLED", j8_1="CANCELLED"))
    assert [job.job_id for job in trial_jobs(sweep)[1]] == ["7", "8_0"]
    assert read_trials(sweep)[1].state == "running"
    with pytest.raises(WavslmError, match=r"trial 1: job 7 \(RUNNING\)"):
        refuse_submitted(sweep, [1, 2])
    squeue(tmp_path, monkeypatch, jobs_of(j7="FAILED", j8_0="COMPLETED", j8_1="PENDING"))
    assert read_trials(sweep)[1].state == "failed"


def test_a_trial_that_another_sweep_has_is_left_to_it(
    tmp_path: Path, example_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = prepared(tmp_path, example_registry, {"seeds": [0, 1]}, launch={"on": "slurm"})
    add_jobs(run_of(sweep, 1), [new_record("9", "slurm", ["count"])])
    for name, script in (("sbatch", "echo Submitted batch job 7"), ("srun", "exit 0")):
        squeue(tmp_path, monkeypatch, script, name=name)
    squeue(tmp_path, monkeypatch, jobs_of(j9="RUNNING"))
    said: list[str] = []
    assert submit_sweep(sweep, said.append) == ("7",)
    assert said[0] == f"trial 1: left to job 9, which has {run_of(sweep, 1)}"
    assert trial_tasks(sweep) == {2: ["7"]}
    squeue(tmp_path, monkeypatch, "exit 1")
    with pytest.raises(WavslmError, match="SLURM cannot be asked"):
        submit_sweep(sweep, said.append)


def run_task(
    sweep: Path, trial: int, environment: dict[str, str], *, rank: int = 0, ranks: int = 1
) -> subprocess.CompletedProcess[str]:
    """Run what a process of a job of the sweep runs, as job 77 of submitit."""
    code = (
        "from wavslm_core.sweep.job import TrialJob; "
        "from wavslm_core.sweep.phases import TrialTask; "
        f"print(TrialJob({str(sweep)!r}, TrialTask({trial}))())"
    )
    job = {
        "SUBMITIT_EXECUTOR": "local",
        "SUBMITIT_LOCAL_JOB_ID": "77",
        "SUBMITIT_FOLDER": str(sweep / "jobs"),
    }
    job |= {"SUBMITIT_LOCAL_NTASKS": str(ranks)}
    job |= {"SUBMITIT_LOCAL_GLOBALID": str(rank), "SUBMITIT_LOCAL_LOCALID": str(rank)}
    return subprocess.run(
        [sys.executable, "-c", code], env={**environment, **job}, capture_output=True, text=True, timeout=120
    )


def test_a_job_clears_the_half_written_pickle_of_its_last_requeue(
    tmp_path: Path, example_registry: Registry, example_environment: dict[str, str]
) -> None:
    sweep = prepared(tmp_path, example_registry, {"seeds": [0]})
    half = sweep.path / "jobs" / "77_submitted.pkl.save_tmp"
    half.parent.mkdir()
    half.touch()
    done = run_task(sweep.path, 1, example_environment)
    assert done.returncode == 0, done.stderr
    assert "'status': 'finished'" in done.stdout
    assert not half.exists()


def test_a_job_that_cannot_begin_says_why(
    tmp_path: Path, example_registry: Registry, example_environment: dict[str, str]
) -> None:
    sweep = prepared(tmp_path, example_registry, {"seeds": [0]})
    done = run_task(sweep.path, 1, {**example_environment, "WAVSLM_PLUGINS": "none"})
    assert done.returncode != 0
    (row,) = sweep_status(sweep).rows
    assert row.state == "failed"
    assert "asks for the plugin 'none', which is not installed" in row.error
    assert ready_to_retry(sweep, ()) == [1]
    assert run_task(sweep.path, 1, example_environment).returncode == 0
    assert sweep_status(sweep).counts == "1 finished"


@pytest.mark.parametrize("where", ["in turn", "in a child process"])
def test_a_trial_that_cannot_begin_here_says_why(
    tmp_path: Path, example_registry: Registry, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    sweep = prepared(tmp_path, example_registry, {"seeds": [0]}, launch={"on": "debug"})

    def no_room(adoption: Adoption, recipe: Recipe, run_dir: Path) -> None:
        raise WavslmError("no room to copy.")

    def run() -> None:
        if where == "in turn":
            run_sweep(sweep, lambda line: None)
        else:
            run_in_child([str(sweep.path), "1"])

    with monkeypatch.context() as broken:
        broken.setattr(Adoption, "adopt", no_room)
        run()
    (row,) = sweep_status(sweep).rows
    assert (row.state, row.error) == ("failed", "no room to copy.")
    assert ready_to_retry(sweep, ()) == [1]
    run()
    assert sweep_status(sweep).counts == "1 finished"


def test_why_a_trial_could_not_begin_is_of_no_interest_once_it_has(
    tmp_path: Path, example_registry: Registry
) -> None:
    sweep = prepared(tmp_path, example_registry, {"seeds": [0]}, launch={"on": "debug"})
    (trial,) = read_trials(sweep).runs
    assert trial.run is not None
    record = StageRecord(trial.run.run_dir / STAGES_FILE)
    record.begin("descend")
    with pytest.raises(WavslmError), noting_begin_error(sweep.path, 1):
        raise WavslmError("in use by a process.")
    assert read_trials(sweep)[1].error == "in use by a process."
    record.end("descend", "interrupted", 1.0)
    later = time.time() + 10
    os.utime(trial.run.run_dir / STAGES_FILE, (later, later))
    assert read_trials(sweep)[1].state == "interrupted"


def test_the_first_process_of_a_trial_decides_for_all(
    tmp_path: Path, example_registry: Registry, example_environment: dict[str, str]
) -> None:
    sweep = prepared(tmp_path, example_registry, {"seeds": [0]})
    told = sweep.path / "jobs" / "77_decision.json"
    # To this one the trial looks unfinished, and what an earlier start decided is still there.
    write_json(told, {"start": "0", "error": "of before"})
    environment = {**example_environment, "SLURM_RESTART_COUNT": "1"}
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(run_task, sweep.path, 1, environment, rank=1, ranks=2)
        write_json(told, {"start": "1", "run": None})
        assert "'status': 'finished'" in other.result(timeout=120).stdout
    assert not (run_of(sweep, 1) / "count.txt").exists()


def test_all_processes_of_a_trial_that_cannot_begin_leave_at_once(
    tmp_path: Path, example_registry: Registry, example_environment: dict[str, str]
) -> None:
    sweep = prepared(tmp_path, example_registry, {"seeds": [0]})
    (run_of(sweep, 1) / "recipe.yaml").write_text("name: [")
    for rank in (0, 1):
        done = run_task(sweep.path, 1, example_environment, rank=rank, ranks=2)
        assert done.returncode == 2, done.stderr
    assert "error: trial 1 did not begin in process 0: " in done.stderr
    assert "recipe.yaml" in done.stderr


def test_a_trial_that_somebody_else_runs_is_left_alone(tmp_path: Path, example_registry: Registry) -> None:
    sweep = prepared(tmp_path, example_registry, {"seeds": [0, 1]}, launch={"on": "debug"})
    run_dir = run_of(sweep, 1)
    write_json(run_dir / "prune.json", {"sweep": "another", "trial": 3})
    said: list[str] = []
    with RunLock(run_dir):
        run_sweep(sweep, said.append)
        states = [trial.state for trial in read_trials(sweep).runs]
    assert states == ["running", "finished"]
    assert any("is in use by" in line for line in said)
    assert not (run_dir / "error.txt").exists()
    assert (run_dir / "prune.json").exists()


def test_an_error_from_before_an_interruption_is_over(
    tmp_path: Path, example_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    squeue(tmp_path, monkeypatch, "exit 0")
    sweep = prepared(tmp_path, example_registry, {"seeds": [0]})
    run_dir = run_of(sweep, 1)
    add_jobs(run_dir, [new_record("5", "slurm", ["count"])])
    write_json(run_dir / "stages.json", {"count": {"status": "failed", "started": "", "seconds": 1.0}})
    write_error(run_dir, "5", describe(WavslmError("the shelf is empty."), 0))
    assert read_trials(sweep)[1].error == "the shelf is empty."
    # Taken up by another command, and stopped.
    write_json(run_dir / "stages.json", {"count": {"status": "interrupted", "started": "", "seconds": 1.0}})
    os.utime(run_dir / "stages.json", (time.time() + 5, time.time() + 5))
    assert read_trials(sweep)[1].state == "interrupted"
    # A failure after that, before any stage began again.
    os.utime(run_dir / "stages.json", (1, 1))
    assert read_trials(sweep)[1].state == "failed"


def test_trials_are_spared_only_when_they_do_run_again(tmp_path: Path, example_registry: Registry) -> None:
    descend = {"run": "descend", "steps": 20}
    sweep = prepared(
        tmp_path,
        example_registry,
        {"seeds": [0], "metric": "valid.loss", "prune": {}},
        **PARTS,
        stages=[descend],
    )
    write_json(run_of(sweep, 1) / "pruned.json", {"stage": "descend", "step": 5, "valid": {}})
    assert sweep_status(sweep).counts == "1 pruned"
    assert ready_to_retry(sweep, [1]) == [1]
    with pytest.raises(WavslmError, match="refused"), sparing(sweep, [1]):
        raise WavslmError("refused")
    assert sweep_status(sweep).counts == "1 pruned"
    with sparing(sweep, [1]):
        pass
    assert sweep_status(sweep).counts == "1 new"


def study_of(folder: Path, registry: Registry) -> SweepFolder:
    """A sweep of four trials that can have two different sets of values only."""
    pytest.importorskip("optuna")
    random = {"head.chunk_tokens": {"choice": [4, 8]}, "trials": 4}
    descend = {"run": "descend", "steps": 20}
    sweep = {"sampler": "optuna", "metric": "valid.loss", "random": random}
    return prepared(folder, registry, sweep, **PARTS, stages=[descend], launch={"on": "debug"})


def test_values_that_are_chosen_again_run_once(tmp_path: Path, example_registry: Registry) -> None:
    sweep = study_of(tmp_path, example_registry)
    study = SweepStudy(sweep)
    for number in range(1, 5):
        study.claim(number)
    entries = sweep.entries()
    assert len({entry.run for entry in entries}) == 2
    originals = {entry.number: entry.run for entry in entries if entry.same_as is None}
    assert len(originals) == 2
    for entry in entries:
        assert entry.run == originals[entry.same_as or entry.number]
    said: list[str] = []
    run_sweep(sweep, said.append)
    assert sum("stage descend: running" in line for line in said) == 2
    assert sum("which runs for both" in line for line in said) == 2
    assert sweep_status(sweep).counts == "4 finished"
    assert [trial.state.name for trial in study.study(0).trials].count("COMPLETE") == 4


@pytest.mark.parametrize("act", [lambda study: study.claim(1), SweepStudy.tell_results])
def test_a_study_is_changed_by_one_at_a_time(
    tmp_path: Path, example_registry: Registry, act: Callable[[SweepStudy], object]
) -> None:
    sweep = study_of(tmp_path, example_registry)
    descriptor = os.open(sweep.path / CLAIM_LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(act, SweepStudy(sweep))
        time.sleep(1.0)
        assert not changing.done()
        os.close(descriptor)
        changing.result(timeout=60)


def test_a_result_that_somebody_else_tells_meanwhile_is_told_once(
    tmp_path: Path, example_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a file system without locks, between optuna's look at a trial and its writing.
    sweep = study_of(tmp_path, example_registry)
    optuna = pytest.importorskip("optuna")
    adoption = Adoption(sweep.path.parent, registry=example_registry)
    run_trial(sweep, 1, adoption, lambda line: None)
    study, other = SweepStudy(sweep), SweepStudy(sweep).study(0)

    def another_tells(*arguments: object) -> None:
        monkeypatch.undo()
        other.tell(0, 2.5)

    monkeypatch.setattr(optuna.samplers.TPESampler, "after_trial", another_tells)
    study.tell_results()
    (trial,) = study.study(0).trials
    assert (trial.state.name, trial.value) == ("COMPLETE", 2.5)


def test_a_sweep_with_a_trial_that_never_began_has_failed(
    tmp_path: Path, example_registry: Registry, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    sweep = study_of(tmp_path, example_registry)
    claim = SweepStudy.claim

    def fails_at_two(study: SweepStudy, number: int) -> TrialEntry:
        if number == 2:
            raise WavslmError("no values are left")
        return claim(study, number)

    monkeypatch.setattr(SweepStudy, "claim", fails_at_two)
    with pytest.raises(typer.Exit) as left:
        run_trials(sweep, command="again")
    assert left.value.exit_code == EXIT_MENDABLE
    assert "error: trial 2: no values are left" in capsys.readouterr().err


def test_no_trial_outlives_a_pool_that_fails(
    tmp_path: Path,
    example_registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    example_environment: dict[str, str],
) -> None:
    for name in ("PYTHONPATH", "WAVSLM_PLUGINS"):
        monkeypatch.setenv(name, example_environment[name])
    stages = [{"run": "count", "steps": 10**6, "pause_s": 0.05}]
    sweep = prepared(tmp_path, example_registry, {"seeds": [0, 1], "max_parallel": 2}, stages=stages)
    counts = [run_of(sweep, number) / "count.txt" for number in (1, 2)]

    def say(line: str) -> None:
        until("the first trial", counts[0].exists)
        raise OSError("the terminal is gone")

    with pytest.raises(OSError, match="the terminal is gone"):
        run_pool(sweep, [TrialTask(1), TrialTask(2)], say)
    assert read_trials(sweep)[1].state == "interrupted"
    steps = counts[0].read_text()
    time.sleep(0.5)
    assert counts[0].read_text() == steps
