"""A real SLURM's answers about jobs that wait, run, were requeued, ended, or are forgotten."""

from pathlib import Path

from tests.slurm.cluster import Cluster
from tests.support import until
from wavslm_core.machine import slurm as slurm_state
from wavslm_core.machine.slurm import cancel, is_active, job_states


def test_states_of_jobs_and_tasks(slurm: Cluster, tmp_path: Path) -> None:
    failed = slurm.submit("exit 3", folder=tmp_path)
    slurm.wait(failed, "FAILED")
    array = slurm.submit("sleep 600", "--array=0-3", "--cpus-per-task=2", folder=tmp_path)
    after = slurm.submit("true", f"--dependency=afterok:{array}", folder=tmp_path)
    for task in range(2):
        slurm.wait(f"{array}_{task}", "RUNNING")

    # SLURM finds out why a job waits some time after it was queued.
    jobs = [array, after, failed, "999999"]
    until(
        "a reason to wait", lambda: job_states(jobs)[after].reason, seen=lambda: job_states(jobs), every_s=0.2
    )
    states = job_states(jobs)
    assert set(states) == {*(f"{array}_{task}" for task in range(4)), after, failed}
    assert states[f"{array}_0"].nodes in slurm.nodes
    assert states[after].waits
    assert states[after].reason == "Dependency"
    assert states[failed].state == "FAILED"
    assert states[failed].ended
    assert is_active(array)
    assert is_active(f"{array}_3")
    assert not is_active(failed)

    slurm.run("scontrol", "requeue", f"{array}_1")
    requeued = f"{array}_1"
    until("the task to wait again", lambda: job_states([requeued])[requeued].waits, every_s=0.2)
    assert job_states([requeued])[requeued].restarts == 1

    cancel([f"{array}_2", f"{array}_3", after])
    slurm.wait(after, "CANCELLED")
    slurm.wait(f"{array}_3", "CANCELLED")
    assert not is_active(f"{array}_3")
    assert is_active(f"{array}_0")


def test_tasks_that_are_cancelled_before_they_begin_are_known_at_once(slurm: Cluster, tmp_path: Path) -> None:
    array = slurm.submit("sleep 600", "--array=0-2%1", folder=tmp_path)
    slurm.wait(f"{array}_0", "RUNNING")
    waiting = [f"{array}_1", f"{array}_2"]
    cancel(waiting)
    states = job_states(waiting)
    assert {job_id: state.state for job_id, state in states.items()} == dict.fromkeys(waiting, "CANCELLED")


def test_accounting_answers_for_jobs_that_the_controller_forgot(slurm: Cluster, tmp_path: Path) -> None:
    job = slurm.submit("exit 3", "--array=0-1", folder=tmp_path)
    for task in range(2):
        slurm.wait(f"{job}_{task}", "FAILED")
    states = ("sacct", "-X", "-n", "-P", "-o", "State", "-j", job)
    until("the accounting", lambda: slurm.run(*states).split() == ["FAILED"] * 2, every_s=0.2)
    # The same question as after MinJobAge, when squeue knows nothing.
    asked = slurm_state._ask(
        "sacct", "-X", "--noheader", "--parsable2", f"--format={slurm_state._SACCT}", "-j", job
    )
    found = {state.job_id: (state.state, state.exit_code) for state in slurm_state.read_sacct(asked)}
    assert found == {f"{job}_0": ("FAILED", "3:0"), f"{job}_1": ("FAILED", "3:0")}
