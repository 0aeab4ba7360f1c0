"""Recipes as chains of jobs on a real SLURM."""

import json
from pathlib import Path

import pytest

import wavslm_core
from tests.slurm.cluster import Cluster
from tests.slurm.submitted import CODEC, Submitted, stages_of
from tests.support import SMALL_LM
from wavslm_core.run.records import read_jobs


@pytest.fixture(scope="module")
def submitted(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Submitted:
    return Submitted(tmp_path_factory.mktemp("launch"), slurm)


def test_submitting_returns_at_once_and_a_second_time_says_who_has_it(
    submitted: Submitted, slurm: Cluster
) -> None:
    recipe = submitted.recipe("once", [{"run": "count", "steps": 500, "pause_s": 0.5}], copy_code=True)
    done = submitted.command(recipe)
    (run,) = submitted.runs(recipe)
    (job,) = read_jobs(run)
    assert f"job {job.job_id}: count, log {run}/jobs/{job.job_id}_0_log.out" in done.stdout
    assert f"follow: wavslm jobs runs/{run.name}\nstop:   wavslm stop runs/{run.name}" in done.stdout
    submitted.until("the first step", lambda: (run / "count.txt").exists())
    saved = (run / "recipe.yaml").read_text()
    second = submitted.command(recipe, "launch.timeout_min=7", code=2)
    assert f"was submitted before: job {job.job_id} (RUNNING); process " in second.stderr
    assert f"job {job.job_id} (last heartbeat " in second.stderr
    assert (run / "recipe.yaml").read_text() == saved, "a job that restarts reads it"
    here = submitted.command(recipe, "launch.on=debug", code=2)
    assert "was submitted before" in here.stderr
    # The job runs the copy, and that is what was submitted.
    log = run / "jobs" / f"{job.job_id}_0_log.out"
    assert f"code: {run}/code/wavslm_core" in log.read_text()
    assert (run / "code" / "wavslm_example" / "stages.py").exists()
    assert json.loads((run / "code.json").read_text())["git_commit"]
    (run / "hurry").touch()
    assert slurm.wait(job.job_id, "COMPLETED", "FAILED") == "COMPLETED"
    assert stages_of(run) == {"count": "finished"}
    again = submitted.command(recipe)
    assert "stage count: finished before, skipped" in again.stdout
    assert read_jobs(run) == [job]


def test_the_copy_runs_also_when_the_checkout_is_where_it_was_submitted(
    submitted: Submitted, slurm: Cluster
) -> None:
    recipe = submitted.recipe("inside", [{"run": "count"}], copy_code=True)
    checkout = Path(wavslm_core.__file__).parents[1]
    submitted.command(recipe, "--runs-dir", submitted.folder / "runs", folder=checkout)
    (run,) = submitted.runs(recipe)
    (job,) = read_jobs(run)
    assert slurm.wait(job.job_id, "COMPLETED", "FAILED") == "COMPLETED"
    assert f"code: {run}/code/wavslm_core" in (run / job.logs[0]).read_text()


def test_stages_with_other_needs_are_a_chain_of_jobs(submitted: Submitted, slurm: Cluster) -> None:
    tokenize = {"run": "tokenize", "shard_minutes": 0.1, "launch": {"array": 2, "memory_gb": 0.5}}
    recipe = submitted.recipe("chain", [CODEC | {"steps": 2}, tokenize, SMALL_LM])
    run, jobs = submitted.submit(recipe)
    codec, array, rest = jobs
    assert [job.stages for job in jobs] == [("train_codec",), ("tokenize",), ("tokenize", "train_lm")]
    assert (codec.array, array.array, rest.array) == (None, 2, None)
    assert array.depends_on == (codec.job_id,)
    assert rest.depends_on == (array.job_id,)
    slurm.wait(rest.job_id, "COMPLETED", "FAILED", "CANCELLED")
    logs = [(run / log).read_text() for job in jobs for log in job.logs]
    assert slurm.state(rest.job_id) == "COMPLETED", "\n".join(logs)
    assert stages_of(run) == {"train_codec": "finished", "tokenize": "finished", "train_lm": "finished"}
    for number, log in enumerate(array.logs):
        assert f"stage tokenize: finished, part {number + 1} of 2" in (run / log).read_text()
    here = submitted.run_here(recipe)
    for path in ("codec/model.safetensors", "tokens/train/tokens-00000.bin", "speech_lm/model.safetensors"):
        assert (run / path).read_bytes() == (here / path).read_bytes(), path


def test_nothing_starts_after_a_job_that_failed(submitted: Submitted, slurm: Cluster) -> None:
    stages = [{"run": "break"}, {"run": "count", "launch": {"memory_gb": 0.5}}]
    run, (first, second) = submitted.submit(submitted.recipe("fails", stages))
    slurm.wait(second.job_id, "CANCELLED", "COMPLETED", "FAILED")
    assert slurm.state(first.job_id) == "FAILED"
    assert slurm.state(second.job_id) == "CANCELLED"
    log = (run / first.logs[0]).read_text()
    assert "error: the shelf is empty. Put something on it." in log
    assert "Traceback" not in log
    assert not (run / "count.txt").exists()


def test_what_sbatch_refuses_is_one_line_and_no_half_chain(submitted: Submitted, slurm: Cluster) -> None:
    stages = [
        {"run": "count", "steps": 10**6, "pause_s": 1.0},
        {"run": "break", "launch": {"partition": "nowhere"}},
    ]
    recipe = submitted.recipe("refused", stages)
    done = submitted.command(recipe, code=2)
    assert "error: sbatch refuses the job: " in done.stderr
    assert "invalid partition" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    (run,) = submitted.runs(recipe)
    assert read_jobs(run) == []
    submitted.until(
        "the end of the first job", lambda: "refused" not in slurm.run("squeue", "-h", "-o", "%j")
    )


def test_the_script_of_a_dry_run_is_the_one_that_is_submitted(submitted: Submitted, slurm: Cluster) -> None:
    recipe = submitted.recipe(
        "script", [{"run": "count"}], setup=["export HERE=1"], extra={"comment": "mine"}
    )
    shown = submitted.command(recipe, "--dry-run").stdout
    run, (job,) = submitted.submit(recipe)
    script = (run / "jobs" / f"{job.job_id}_submission.sh").read_text()
    assert script in shown
    assert "#SBATCH --signal=USR2@120" in script
    slurm.wait(job.job_id, "COMPLETED")
    assert Path(run / "count.txt").exists()
