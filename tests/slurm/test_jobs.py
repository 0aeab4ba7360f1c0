"""Submitted runs as a person follows, lists and stops them, on a real SLURM."""

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.shell import Shell
from tests.slurm.submitted import CODEC, Submitted
from tests.support import until
from wavslm_core.machine.progress import read_progress
from wavslm_core.run.records import read_jobs
from wavslm_core.run.state import RunStatus, read_statuses

SLOW = "{run: count, steps: 400, pause_s: 0.5}"


@pytest.fixture
def shell(slurm: Cluster, tmp_path: Path) -> Shell:
    return Shell(slurm, tmp_path)


def status_of(run_dir: Path) -> RunStatus:
    (status,) = read_statuses([run_dir])
    return status


def wait_for(run_dir: Path, ready: Callable[[RunStatus], bool]) -> RunStatus:
    def there() -> RunStatus | None:
        status = status_of(run_dir)
        return status if ready(status) else None

    return until(f"{run_dir.name} to get there", there, seen=lambda: status_of(run_dir), every_s=0.3)


def wait_for_listing(shell: Shell, run_dir: Path, pattern: str) -> None:
    """Wait until `wavslm jobs RUN` shows this: SLURM finds out late why a job waits."""

    def shown() -> str:
        return str(shell.run("wavslm", "jobs", run_dir.name).stdout)

    until(pattern, lambda: re.search(pattern, shown()), seen=shown)


def counting(status: RunStatus) -> bool:
    return status.state == "running" and status.progress is not None and status.progress.done > 3


def test_run_is_listed_while_it_runs_and_after_wavslm_stop(shell: Shell) -> None:
    run_dir = shell.submit(f"[{SLOW}]")
    running = wait_for(run_dir, counting)
    assert running.nodes in shell.slurm.nodes
    assert running.stage == "count"

    listed = shell.run("wavslm", "jobs")
    row = next(line for line in listed.stdout.splitlines() if line.startswith("one-"))
    assert re.search(r"running\s+node\d\s+count\s+\d+/400 numbers\s+[\d.]+/s\s+\d+:\d\d", row), row

    shown = shell.run("wavslm", "jobs", run_dir.name)
    (record,) = read_jobs(run_dir)
    assert re.search(rf"{record.job_id}\s+count\s+RUNNING\s+node\d", shown.stdout), shown.stdout
    assert f"log: {run_dir.relative_to(shell.folder) / record.logs[0]}" in shown.stdout
    assert "stage count: running" in shown.stdout

    stopped = shell.run("wavslm", "stop", run_dir.name)
    assert f"asked to save and to end: job {record.job_id} on node" in stopped.stdout
    assert "everything it did is saved; to continue: wavslm-run r.yaml" in stopped.stdout
    ended = status_of(run_dir)
    assert (ended.state, ended.active) == ("interrupted", ())
    counted = len((run_dir / "count.txt").read_text().split())
    assert 3 < counted < 400

    # The same command continues: nothing is counted twice.
    (run_dir / "hurry").touch()
    shell.run("wavslm-run", "r.yaml")
    wait_for(run_dir, lambda status: status.state == "finished")
    assert (run_dir / "count.txt").read_text().split() == [str(number) for number in range(400)]


def test_queued_run_is_cancelled_at_once(shell: Shell) -> None:
    run_dir = shell.submit(f"[{SLOW}]", "extra: {begin: now+1hour}")
    queued = wait_for(run_dir, lambda status: bool(status.active))
    assert queued.state == "queued"
    wait_for_listing(shell, run_dir, r"PENDING\s+BeginTime")
    stopped = shell.run("wavslm", "stop", run_dir.name)
    assert "cancelled, before it ran: job" in stopped.stdout
    assert status_of(run_dir).active == ()
    again = shell.run("wavslm", "stop", run_dir.name, code=2)
    assert "is not running" in again.stderr


def test_requeued_run_waits_to_go_on_until_it_is_stopped(shell: Shell) -> None:
    run_dir = shell.submit(f"[{SLOW}]")
    wait_for(run_dir, counting)
    (record,) = read_jobs(run_dir)
    shell.slurm.run("scontrol", "requeue", record.job_id)
    status = wait_for(run_dir, lambda status: status.state == "requeued")
    assert (status.restarts, status.stage) == (1, "count")
    stopped = shell.run("wavslm", "stop", run_dir.name)
    assert "cancelled" in stopped.stdout or "asked to save" in stopped.stdout
    assert status_of(run_dir).active == ()
    counted = (run_dir / "count.txt").read_text().split()
    assert counted == [str(number) for number in range(len(counted))]


def test_stopping_a_chain_cancels_what_waits_and_lets_the_rest_save(shell: Shell) -> None:
    run_dir = shell.submit(f"[{SLOW}, {{run: count, launch: {{cpus_per_task: 2}}}}]")
    wait_for(run_dir, counting)
    first, second = read_jobs(run_dir)
    stopped = shell.run("wavslm", "stop", run_dir.name)
    assert f"cancelled, before it ran: job {second.job_id}\n" in stopped.stdout
    assert f"asked to save and to end: job {first.job_id} on node" in stopped.stdout
    status = status_of(run_dir)
    assert (status.state, status.active) == ("interrupted", ())


def test_deaf_run_is_ended_after_a_while(shell: Shell) -> None:
    run_dir = shell.submit("[{run: count, steps: 4000, pause_s: 0.2, deaf: true}]")
    wait_for(run_dir, counting)
    stopped = shell.run("wavslm", "stop", run_dir.name, "--patience", "3")
    assert "did not stop within 3 s" in stopped.stdout
    assert "since it last saved is lost" in stopped.stdout
    assert status_of(run_dir).active == ()


def test_wait_follows_log_and_ends_with_the_run(shell: Shell) -> None:
    shell.write("[{run: count, steps: 3}, {run: count, steps: 2}]")
    done = shell.run("wavslm-run", "r.yaml", "--wait")
    lines = done.stdout.splitlines()
    assert any("RUNNING on node" in line or "COMPLETED" in line for line in lines), done.stdout
    assert [line for line in lines if line.startswith("stage count_2: finished in")], done.stdout
    assert lines[-1].startswith("finished in")


@pytest.mark.parametrize(
    ("how", "code", "said", "advice"),
    [
        ("mendable", 2, "the shelf is empty. Put something on it.", ""),
        ("bug", 1, "RuntimeError: a wheel came off", "; report it to its authors; --traceback shows all"),
    ],
)
def test_wait_names_the_first_error(shell: Shell, how: str, code: int, said: str, advice: str) -> None:
    shell.write(f"[{{run: count, steps: 1}}, {{run: break, how: {how}}}]")
    done = shell.run("wavslm-run", "r.yaml", "--wait", code=code)
    assert done.stderr.endswith(f"{said}{advice}\n")
    assert len(done.stderr.splitlines()) == 1
    (run_dir,) = shell.folder.glob("runs/one-*")
    assert status_of(run_dir).state == "failed"
    shown = shell.run("wavslm", "jobs", run_dir.name)
    (record,) = read_jobs(run_dir)
    found = re.search(rf"^job {record.job_id}: rank 0 on \S+ (.*)$", shown.stdout, re.MULTILINE)
    assert found, shown.stdout
    assert found[1] == said


def test_wait_tells_of_a_job_that_died_without_a_word(shell: Shell) -> None:
    shell.write("[{run: break, how: killed}]")
    done = shell.run("wavslm-run", "r.yaml", "--wait", code=1)
    assert re.search(r"error: job \d+ ended as FAILED.*\. Its log is \S+_log\.out", done.stderr), done.stderr
    (run_dir,) = shell.folder.glob("runs/one-*")
    assert status_of(run_dir).state == "failed"
    assert re.search(r"^job \d+: ", shell.run("wavslm", "jobs", run_dir.name).stdout, re.MULTILINE)


def test_ctrl_c_while_waiting_leaves_the_job_running(shell: Shell) -> None:
    shell.write(f"[{SLOW}]")
    process = shell.start("wavslm-run", "r.yaml", "--wait")
    counted = until("a run that counts", lambda: [*shell.folder.glob("runs/one-*/count.txt")], process)
    run_dir = counted[0].parent
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert f"the jobs go on; look again with `wavslm jobs {run_dir.relative_to(shell.folder)}`" in output
    assert status_of(run_dir).state == "running"


def test_chain_and_array_are_shown_as_such(slurm: Cluster, shell: Shell, tmp_path: Path) -> None:
    submitted = Submitted(tmp_path, slurm)
    tokenize = {"run": "tokenize", "shard_minutes": 0.06, "launch": {"array": 2}}
    long = {"run": "count", "steps": 400, "pause_s": 0.5}
    recipe = submitted.recipe("array", [long, {**CODEC, "steps": 2, "continuous_steps": 1}, tokenize])
    run_dir, (train, array, rest) = submitted.submit(recipe)
    wait_for_listing(shell, run_dir, rf"{array.job_id} ×2\s+tokenize\s+2 PENDING\s+Dependency")
    (run_dir / "hurry").touch()
    done = wait_for(run_dir, lambda status: not status.active)
    assert done.state == "finished"
    shown = shell.run("wavslm", "jobs", run_dir.name)
    assert re.search(rf"{train.job_id}\s+count, train_codec\s+COMPLETED", shown.stdout), shown.stdout
    assert re.search(rf"{array.job_id} ×2\s+tokenize\s+2 COMPLETED", shown.stdout), shown.stdout
    assert re.search(rf"{rest.job_id}\s+tokenize\s+COMPLETED", shown.stdout), shown.stdout
    parts = [read_progress(run_dir / f"progress-{index}-of-2.json") for index in range(2)]
    assert all(part is not None and part.done == part.total for part in parts), parts


def test_without_slurm_runs_are_still_listed(shell: Shell, tmp_path: Path) -> None:
    run_dir = shell.submit(f"[{SLOW}]")
    wait_for(run_dir, counting)
    shell.environment["PATH"] = str(tmp_path / "nothing")
    shell.environment.pop("SLURM_CONF")
    listed = shell.run("wavslm", "jobs")
    # The process that holds the run beats: what it says is known without SLURM.
    assert re.search(r"^one-\S+\s+running\s+", listed.stdout, re.MULTILINE), listed.stdout
    assert "SLURM cannot be asked: there is no squeue on this machine" in listed.stdout
