"""Whatever ends a job early, the run continues in the same folder and ends with the same bits."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.submitted import PATIENT, Submitted, assert_same_training, rank_pids, stages_of
from wavslm_core.run.failure import first_error
from wavslm_core.run.records import JobRecord
from wavslm_core.run.stop import request_stop


@pytest.fixture(scope="module")
def submitted(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Submitted:
    return Submitted(tmp_path_factory.mktemp("surviving"), slurm)


@pytest.fixture(scope="module", autouse=True)
def late(submitted: Submitted) -> tuple[Path, JobRecord]:
    """A job that is about to run out of time; SLURM looks every half a minute, so others run meanwhile."""
    stages = [{"run": "count", "steps": 3000, "pause_s": 0.05}]
    # Counting leaves nothing that a restart would be measured by.
    limits = {"timeout_min": 2, "signal_delay_s": 30, "max_restarts": 1000}
    recipe = submitted.recipe("late", stages, extra={"nodelist": "node3"}, **limits)
    run, (job,) = submitted.submit(recipe)
    return run, job


def log_of(run: Path, job_id: str, rank: int = 0) -> str:
    return (run / "jobs" / f"{job_id}_{rank}_log.out").read_text()


def counting(submitted: Submitted, name: str, **launch: Any) -> tuple[Path, JobRecord]:
    """Submit something that costs nothing and lasts, and wait until it has begun."""
    recipe = submitted.recipe(name, [{"run": "count", "steps": 10**6, "pause_s": 0.1}], **launch)
    run, (job,) = submitted.submit(recipe)
    submitted.until("the first step", lambda: (run / "count.txt").exists())
    return run, job


def test_preempted_signalled_and_requeued_it_ends_with_the_same_bits(
    submitted: Submitted, slurm: Cluster
) -> None:
    training = PATIENT | {"steps": 100, "waits_before": [20, 40, 60]}
    stages = [training, {"run": "count", "launch": {"memory_gb": 0.5}}]
    recipe = submitted.recipe("same", stages, extra={"nodelist": "node1", "exclusive": True})
    run, (job, after) = submitted.submit(recipe)
    submitted.wait_for_step(run, 20)
    # A job of a higher partition needs the node.
    high = slurm.submit(
        "sleep 1", "--partition=high", "--nodelist=node1", "--exclusive", folder=submitted.folder
    )
    slurm.wait(high, "COMPLETED")
    submitted.wait_for_restart(job.job_id, 1)
    submitted.wait_for_step(run, 40)
    slurm.run("scancel", "--signal=USR2", job.job_id)
    submitted.wait_for_restart(job.job_id, 2)
    submitted.wait_for_step(run, 60)
    slurm.run("scontrol", "requeue", job.job_id)
    submitted.wait_for_restart(job.job_id, 3)
    # SLURM may have killed it before it saved, and then it is before step 60 once more.
    submitted.hurry("same")
    assert slurm.wait(job.job_id, "COMPLETED", "FAILED") == "COMPLETED"
    log = log_of(run, job.job_id)
    assert log.count("continuing from step") == 3, log
    assert_same_training(run, submitted.run_here(recipe))
    # What waited for the job to succeed has waited all the time.
    assert slurm.wait(after.job_id, "COMPLETED", "CANCELLED") == "COMPLETED"


def test_what_never_advances_is_not_restarted_for_ever(submitted: Submitted, slurm: Cluster) -> None:
    # It validates, but leaves nothing that a restart would be measured by.
    stages = [{"run": "descend", "steps": 10**6, "pause_s": 0.1}]
    run, (job,) = submitted.submit(submitted.recipe("stuck", stages, max_restarts=0))
    submitted.until("the first validation", lambda: (run / "metrics.jsonl").exists())
    slurm.run("scancel", "--signal=USR2", job.job_id)
    assert slurm.wait(job.job_id, "FAILED", "COMPLETED") == "FAILED"
    assert "restarted 1 times in a row without getting any further" in log_of(run, job.job_id)
    error = first_error(run, job.job_id)
    assert error.kind == "mendable"


def test_a_cancelled_job_saves_and_stays_away(submitted: Submitted, slurm: Cluster) -> None:
    run, job = counting(submitted, "cancelled")
    slurm.run("scancel", job.job_id)
    slurm.wait(job.job_id, "CANCELLED")
    submitted.until("the end of the stage", lambda: stages_of(run) == {"count": "interrupted"})
    # A job that comes back does so at once, and then waits.
    time.sleep(1)
    assert slurm.state(job.job_id) == "CANCELLED"


def test_a_stop_that_is_asked_for_saves_and_stays_away(submitted: Submitted, slurm: Cluster) -> None:
    run, job = counting(submitted, "stopped")
    request_stop(run)
    assert slurm.wait(job.job_id, "FAILED", "COMPLETED") == "FAILED"
    assert submitted.restarts(job.job_id) == 0
    assert stages_of(run) == {"count": "interrupted"}


def test_a_killed_rank_takes_the_job_down_and_the_same_command_continues(
    submitted: Submitted, slurm: Cluster
) -> None:
    stage = PATIENT | {"steps": 60, "checkpoint_every": 15}
    recipe = submitted.recipe("killed", [stage], nodes=2, cpus_per_task=1)
    run, (job,) = submitted.submit(recipe)
    submitted.wait_for_step(run, 20)
    (pid,) = rank_pids(slurm, job.job_id, 1)
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    assert slurm.wait(job.job_id, "FAILED", "COMPLETED") == "FAILED"
    assert time.monotonic() - killed < 60
    error = first_error(run, job.job_id)
    assert "process 0 of 2 lost another one" in error.title
    log = log_of(run, job.job_id)
    assert "task 1: Killed" in log
    assert "Traceback" not in log
    submitted.hurry("killed")
    again, (second,) = submitted.submit(recipe)
    assert again == run
    assert slurm.wait(second.job_id, "COMPLETED", "FAILED") == "COMPLETED", log_of(run, second.job_id)
    assert "continuing from step" in log_of(run, second.job_id)
    reference = submitted.run_here(recipe, "launch.processes=2")
    assert_same_training(run, reference)


def test_the_traceback_of_the_rank_that_failed_comes_first(submitted: Submitted, slurm: Cluster) -> None:
    stages = [{"run": "break", "how": "bug", "rank": 1}]
    recipe = submitted.recipe("broken", stages, nodes=2, cpus_per_task=1)
    run, (job,) = submitted.submit(recipe)
    assert slurm.wait(job.job_id, "FAILED", "COMPLETED") == "FAILED"
    error = first_error(run, job.job_id)
    assert (error.rank, error.kind) == (1, "bug")
    assert error.title.endswith("RuntimeError: a wheel came off")
    assert 'raise RuntimeError("a wheel came off")' in error.details
    # Also where people look first, and before what it did to others.
    log = log_of(run, job.job_id)
    assert log.index("RuntimeError: a wheel came off") < log.index("process 0 of 2 lost another one")


def test_a_job_that_runs_out_of_time_goes_on(
    late: tuple[Path, JobRecord], submitted: Submitted, slurm: Cluster
) -> None:
    run, job = late
    submitted.until("a restart after the time-out", lambda: submitted.restarts(job.job_id) > 0)
    assert "SIGUSR2: stopping at the next safe point" in log_of(run, job.job_id)
    (run / "hurry").touch()
    assert slurm.wait(job.job_id, "COMPLETED", "FAILED") == "COMPLETED"
    assert (run / "count.txt").read_text().split() == [str(step) for step in range(3000)]
