"""How trials do, whoever has them: jobs of SLURM, other commands, attempts of before."""

import fcntl
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import typer

from tests.support import FAKES, Command, fake_programs, run_program, run_without, until
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

Prepared = Callable[..., SweepFolder]
pytestmark = pytest.mark.slow

Squeue = Callable[[str], None]
DESCEND: dict[str, Any] = {**FAKES, "stages": [{"run": "descend", "steps": 20}]}


@pytest.fixture(autouse=True)
def _only_the_example(example_loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this process see what the recipes were made with, whatever was loaded before."""
    monkeypatch.setattr(plugins, "load", lambda: example_loaded)


@pytest.fixture
def prepared(tmp_path: Path, example_registry: Registry) -> Prepared:
    """Make the folder of a sweep."""

    def call(sweep: dict[str, Any], **blocks: Any) -> SweepFolder:
        document = {"name": "one", "stages": [{"run": "count", "steps": 2}], **blocks, "sweep": sweep}
        recipe = recipe_from_dict(document, registry=example_registry)
        made, trials = SweepFolder.of(recipe, tmp_path / "runs")
        made.prepare(trials)
        return made

    return call


def run_of(sweep: SweepFolder, number: int) -> Path:
    entry = sweep.entry(number)
    assert entry is not None
    run_dir = sweep.run_dir(entry)
    assert run_dir is not None
    return run_dir


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Squeue:
    """Let SLURM answer like this from now on."""
    return lambda script: fake_programs(tmp_path, monkeypatch, squeue=script)


def jobs_of(**states: str) -> str:
    lines = [f"{job[1:]}|{state}|||0||0|" for job, state in states.items()]
    return "\n".join(f"echo '{line}'" for line in lines)


def test_a_sweep_has_not_ended_because_slurm_is_silent(prepared: Prepared, squeue: Squeue) -> None:
    sweep = prepared({"seeds": [0, 1]})
    note_tasks(sweep, {1: ["7_0"], 2: ["7_1"]})
    squeue("echo 'socket timed out' >&2; exit 1")
    assert not sweep_status(sweep).has_ended
    squeue(jobs_of(j7_0="RUNNING", j7_1="PENDING"))
    assert not sweep_status(sweep).has_ended
    squeue(jobs_of(j7_0="CANCELLED", j7_1="CANCELLED"))
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
    damaged: str, state: str, command: Command, prepared: Prepared
) -> None:
    sweep = prepared({"seeds": [0, 1, 2]})
    (sweep.path / damaged.format(run=run_of(sweep, 2).name)).write_text("[7}")
    shown = command("main", "sweep", "status", str(sweep.path))
    rows = {line.split()[0]: line for line in shown.stdout.splitlines() if line[:1].isdigit()}
    assert set(rows) == {"1", "2", "3"}
    assert f" {state} " in rows["2"]
    assert " new " in rows["1"]
    assert " new " in rows["3"]
    assert Path(damaged.format(run="")).name in shown.stdout or "2.json" in damaged
    retried = command("main", "sweep", "retry", str(sweep.path), code=2)
    assert "no trial of" in retried.stderr
    command("main", "sweep", "results", str(sweep.path))
    if damaged.startswith("trials"):
        sweep.add(2, SweepFolder.of(sweep.recipe, sweep.path.parent)[1][1])
        assert read_trials(sweep)[2].state == "new", "it is written anew"


def test_trials_are_looked_at_without_plugins(monkeypatch: pytest.MonkeyPatch, prepared: Prepared) -> None:
    made = prepared({"seeds": [0], "metric": "valid.loss"}, **DESCEND)
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
    arguments: list[str], example_environment: dict[str, str], prepared: Prepared
) -> None:
    made = prepared({"seeds": [0], "metric": "valid.loss"}, **DESCEND)
    given = [text.format(runs=made.path.parent, sweep=made.path) for text in arguments]
    heavy = {"torch", "numpy", "optuna", "submitit", "jinja2", "wavslm_example"}
    assert " new " in run_without(heavy, "wavslm", *given, env=example_environment)


def test_the_job_of_the_shared_stages_counts(prepared: Prepared, squeue: Squeue) -> None:
    sweep = prepared({"seeds": [0, 1]})
    note_tasks(sweep, {1: ["7", "8_0"], 2: ["8_1"]})
    squeue(jobs_of(j7="RUNNING", j8_0="CANCELLED", j8_1="CANCELLED"))
    assert [job.job_id for job in trial_jobs(sweep)[1]] == ["7", "8_0"]
    assert read_trials(sweep)[1].state == "running"
    with pytest.raises(WavslmError, match=r"trial 1: job 7 \(RUNNING\)"):
        refuse_submitted(sweep, [1, 2])
    squeue(jobs_of(j7="FAILED", j8_0="COMPLETED", j8_1="PENDING"))
    assert read_trials(sweep)[1].state == "failed"


def test_a_trial_that_another_sweep_has_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: Prepared, squeue: Squeue
) -> None:
    sweep = prepared({"seeds": [0, 1]}, launch={"on": "slurm"})
    add_jobs(run_of(sweep, 1), [new_record("9", "slurm", ["count"])])
    fake_programs(tmp_path, monkeypatch, sbatch="echo Submitted batch job 7", srun="exit 0")
    squeue(jobs_of(j9="RUNNING"))
    said: list[str] = []
    assert submit_sweep(sweep, said.append) == ("7",)
    assert said[0] == f"trial 1: left to job 9, which has {run_of(sweep, 1)}"
    assert trial_tasks(sweep) == {2: ["7"]}
    squeue("exit 1")
    with pytest.raises(WavslmError, match="SLURM cannot be asked"):
        submit_sweep(sweep, said.append)


@pytest.fixture
def run_task(example_environment: dict[str, str]) -> Command:
    """Run what a process of a job of the sweep runs, as job 77 of submitit."""

    def call(
        sweep: Path, trial: int, *, rank: int = 0, ranks: int = 1, code: int = 0, **variables: str
    ) -> CompletedProcess[str]:
        program = (
            "from wavslm_core.sweep.job import TrialJob; "
            "from wavslm_core.sweep.phases import TrialTask; "
            f"print(TrialJob({str(sweep)!r}, TrialTask({trial}))())"
        )
        job = {"EXECUTOR": "local", "LOCAL_JOB_ID": 77, "FOLDER": sweep / "jobs", "LOCAL_NTASKS": ranks}
        job |= {"LOCAL_GLOBALID": rank, "LOCAL_LOCALID": rank}
        environment = {**example_environment, **variables}
        environment |= {f"SUBMITIT_{name}": str(value) for name, value in job.items()}
        return run_program(sys.executable, "-c", program, code=code, env=environment, timeout=120)

    return call


def test_a_job_clears_the_half_written_pickle_of_its_last_requeue(
    prepared: Prepared, run_task: Command
) -> None:
    sweep = prepared({"seeds": [0]})
    half = sweep.path / "jobs" / "77_submitted.pkl.save_tmp"
    half.parent.mkdir()
    half.touch()
    assert "'status': 'finished'" in run_task(sweep.path, 1).stdout
    assert not half.exists()


def test_a_job_that_cannot_begin_says_why(prepared: Prepared, run_task: Command) -> None:
    sweep = prepared({"seeds": [0]})
    run_task(sweep.path, 1, WAVSLM_PLUGINS="none", code=2)
    (row,) = sweep_status(sweep).rows
    assert row.state == "failed"
    assert "asks for the plugin 'none', which is not installed" in row.error
    assert ready_to_retry(sweep, ()) == [1]
    run_task(sweep.path, 1)
    assert sweep_status(sweep).counts == "1 finished"


@pytest.mark.parametrize("where", ["in turn", "in a child process"])
def test_a_trial_that_cannot_begin_here_says_why(
    monkeypatch: pytest.MonkeyPatch, where: str, prepared: Prepared
) -> None:
    sweep = prepared({"seeds": [0]}, launch={"on": "debug"})

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


def test_why_a_trial_could_not_begin_is_of_no_interest_once_it_has(prepared: Prepared) -> None:
    sweep = prepared({"seeds": [0]}, launch={"on": "debug"})
    (trial,) = read_trials(sweep).runs
    record = StageRecord(trial.run.run_dir / STAGES_FILE)
    record.begin("descend")
    with pytest.raises(WavslmError), noting_begin_error(sweep.path, 1):
        raise WavslmError("in use by a process.")
    assert read_trials(sweep)[1].error == "in use by a process."
    record.end("descend", "interrupted", 1.0)
    later = time.time() + 10
    os.utime(trial.run.run_dir / STAGES_FILE, (later, later))
    assert read_trials(sweep)[1].state == "interrupted"


def test_the_first_process_of_a_trial_decides_for_all(prepared: Prepared, run_task: Command) -> None:
    sweep = prepared({"seeds": [0]})
    told = sweep.path / "jobs" / "77_decision.json"
    # To this one the trial looks unfinished, and what an earlier start decided is still there.
    write_json(told, {"start": "0", "error": "of before"})
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(run_task, sweep.path, 1, rank=1, ranks=2, SLURM_RESTART_COUNT="1")
        write_json(told, {"start": "1", "run": None})
        assert "'status': 'finished'" in other.result(timeout=120).stdout
    assert not (run_of(sweep, 1) / "count.txt").exists()


def test_all_processes_of_a_trial_that_cannot_begin_leave_at_once(
    prepared: Prepared, run_task: Command
) -> None:
    sweep = prepared({"seeds": [0]})
    (run_of(sweep, 1) / "recipe.yaml").write_text("name: [")
    for rank in (0, 1):
        done = run_task(sweep.path, 1, rank=rank, ranks=2, code=2)
    assert "error: trial 1 did not begin in process 0: " in done.stderr
    assert "recipe.yaml" in done.stderr


def test_a_trial_that_somebody_else_runs_is_left_alone(prepared: Prepared) -> None:
    sweep = prepared({"seeds": [0, 1]}, launch={"on": "debug"})
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


def test_an_error_from_before_an_interruption_is_over(prepared: Prepared, squeue: Squeue) -> None:
    squeue("exit 0")
    sweep = prepared({"seeds": [0]})
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


def test_trials_are_spared_only_when_they_do_run_again(prepared: Prepared) -> None:
    sweep = prepared({"seeds": [0], "metric": "valid.loss", "prune": {}}, **DESCEND)
    write_json(run_of(sweep, 1) / "pruned.json", {"stage": "descend", "step": 5, "valid": {}})
    assert sweep_status(sweep).counts == "1 pruned"
    assert ready_to_retry(sweep, [1]) == [1]
    with pytest.raises(WavslmError, match="refused"), sparing(sweep, [1]):
        raise WavslmError("refused")
    assert sweep_status(sweep).counts == "1 pruned"
    with sparing(sweep, [1]):
        pass
    assert sweep_status(sweep).counts == "1 new"


@pytest.fixture
def study_sweep(prepared: Prepared) -> SweepFolder:
    """A sweep of four trials that can have two different sets of values only."""
    pytest.importorskip("optuna")
    random = {"head.chunk_tokens": {"choice": [4, 8]}, "trials": 4}
    sweep = {"sampler": "optuna", "metric": "valid.loss", "random": random}
    return prepared(sweep, **DESCEND, launch={"on": "debug"})


def test_values_that_are_chosen_again_run_once(study_sweep: SweepFolder) -> None:
    study = SweepStudy(study_sweep)
    for number in range(1, 5):
        study.claim(number)
    entries = study_sweep.entries()
    assert len({entry.run for entry in entries}) == 2
    originals = {entry.number: entry.run for entry in entries if entry.same_as is None}
    assert len(originals) == 2
    for entry in entries:
        assert entry.run == originals[entry.same_as or entry.number]
    said: list[str] = []
    run_sweep(study_sweep, said.append)
    assert sum("stage descend: running" in line for line in said) == 2
    assert sum("which runs for both" in line for line in said) == 2
    assert sweep_status(study_sweep).counts == "4 finished"
    assert [trial.state.name for trial in study.study(0).trials].count("COMPLETE") == 4


@pytest.mark.parametrize("act", [lambda study: study.claim(1), SweepStudy.tell_results])
def test_a_study_is_changed_by_one_at_a_time(
    act: Callable[[SweepStudy], object], study_sweep: SweepFolder
) -> None:
    descriptor = os.open(study_sweep.path / CLAIM_LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(act, SweepStudy(study_sweep))
        time.sleep(1.0)
        assert not changing.done()
        os.close(descriptor)
        changing.result(timeout=60)


def test_a_result_that_somebody_else_tells_meanwhile_is_told_once(
    example_registry: Registry, monkeypatch: pytest.MonkeyPatch, study_sweep: SweepFolder
) -> None:
    # As on a file system without locks, between optuna's look at a trial and its writing.
    optuna = pytest.importorskip("optuna")
    adoption = Adoption(study_sweep.path.parent, registry=example_registry)
    run_trial(study_sweep, 1, adoption, lambda line: None)
    study, other = SweepStudy(study_sweep), SweepStudy(study_sweep).study(0)

    def another_tells(*arguments: object) -> None:
        monkeypatch.undo()
        other.tell(0, 2.5)

    monkeypatch.setattr(optuna.samplers.TPESampler, "after_trial", another_tells)
    study.tell_results()
    (trial,) = study.study(0).trials
    assert (trial.state.name, trial.value) == ("COMPLETE", 2.5)


def test_a_sweep_with_a_trial_that_never_began_has_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, study_sweep: SweepFolder
) -> None:
    claim = SweepStudy.claim

    def fails_at_two(study: SweepStudy, number: int) -> TrialEntry:
        if number == 2:
            raise WavslmError("no values are left")
        return claim(study, number)

    monkeypatch.setattr(SweepStudy, "claim", fails_at_two)
    with pytest.raises(typer.Exit) as left:
        run_trials(study_sweep, command="again")
    assert left.value.exit_code == EXIT_MENDABLE
    assert "error: trial 2: no values are left" in capsys.readouterr().err


def test_no_trial_outlives_a_pool_that_fails(
    monkeypatch: pytest.MonkeyPatch, example_environment: dict[str, str], prepared: Prepared
) -> None:
    for name in ("PYTHONPATH", "WAVSLM_PLUGINS"):
        monkeypatch.setenv(name, example_environment[name])
    stages = [{"run": "count", "steps": 10**6, "pause_s": 0.05}]
    sweep = prepared({"seeds": [0, 1], "max_parallel": 2}, stages=stages)
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
