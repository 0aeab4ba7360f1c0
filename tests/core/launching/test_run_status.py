"""What a run's folder tells without SLURM, and finding runs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from wavslm_core.errors import WavslmError
from wavslm_core.launching.job_record import JobRecord, add_jobs, new_record
from wavslm_core.launching.lock import STALE_S, Holder
from wavslm_core.launching.run_progress import newest_progress
from wavslm_core.launching.run_search import find_run, submitted_with
from wavslm_core.launching.run_status import RunStatus, last_chain, read_statuses
from wavslm_core.processes import Share
from wavslm_core.pulse import RunPulse, progress_path


def make_run(folder: Path, **statuses: str) -> Path:
    """A run of two stages, of which some have a status."""
    run_dir = folder / "one-1234"
    run_dir.mkdir()
    (run_dir / "recipe.yaml").write_text("name: one\nstages: [{run: count}, {run: count}]\n")
    entries = {name: {"status": status, "seconds": 0.0} for name, status in statuses.items()}
    (run_dir / "stages.json").write_text(json.dumps(entries))
    return run_dir


def status_of(run_dir: Path) -> RunStatus:
    (status,) = read_statuses([run_dir])
    return status


def hold(run_dir: Path, **changes: Any) -> None:
    now = time.time()
    holder = Holder(os.getpid(), socket.gethostname(), None, now, now)
    (run_dir / ".lock").write_text(json.dumps({**asdict(holder), **changes}))


@pytest.mark.parametrize(
    ("statuses", "state", "stage"),
    [
        ({}, "new", ""),
        ({"count": "finished", "count_2": "finished"}, "finished", "count_2"),
        ({"count": "finished"}, "interrupted", "count"),
        ({"count": "finished", "count_2": "interrupted"}, "interrupted", "count_2"),
        ({"count": "failed"}, "failed", "count"),
        ({"count": "pruned"}, "pruned", "count"),
        ({"count": "running"}, "stale", "count"),
    ],
)
def test_states_of_runs_that_nobody_has(
    tmp_path: Path, statuses: dict[str, str], state: str, stage: str
) -> None:
    status = status_of(make_run(tmp_path, **statuses))
    assert (status.state, status.stage) == (state, stage)


def test_run_that_a_living_process_holds_is_running(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, count="running")
    hold(run_dir)
    status = status_of(run_dir)
    assert (status.state, status.nodes) == ("running", socket.gethostname())


def test_run_whose_process_died_is_stale(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, count="running")
    with subprocess.Popen(["sleep", "60"]) as process:
        hold(run_dir, pid=process.pid)
        assert status_of(run_dir).state == "running"
        process.kill()
        # Dead, though its parent has not looked yet.
        end = time.monotonic() + 60
        while (state := status_of(run_dir).state) == "running" and time.monotonic() < end:
            time.sleep(0.05)
        assert state == "stale"
    assert status_of(run_dir).state == "stale"


def test_process_of_another_machine_is_alive_while_it_beats(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, count="running")
    hold(run_dir, host="elsewhere", pid=1)
    assert (status_of(run_dir).state, status_of(run_dir).nodes) == ("running", "elsewhere")
    hold(run_dir, host="elsewhere", pid=1, heartbeat=time.time() - STALE_S - 1)
    assert status_of(run_dir).state == "stale"


def test_submitted_run_without_slurm_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    run_dir = make_run(tmp_path, count="running")
    add_jobs(run_dir, [new_record("12", "slurm", ["count"])])
    status = status_of(run_dir)
    assert status.state == "unknown"
    assert "no squeue on this machine" in status.problem


def test_progress_of_an_array_of_another_size_is_left_out(tmp_path: Path) -> None:
    for index, count in ((0, 2), (1, 2), (0, 3), (2, 3)):
        pulse = RunPulse(progress_path(tmp_path, Share(index, count, partial=True)))
        pulse.beat(stage="tokenize", done=count, total=10)
    found = newest_progress(tmp_path)
    assert found is not None
    assert (found.done, found.total) == (6, 20)


def test_progress_of_the_tasks_of_an_array_is_summed(tmp_path: Path) -> None:
    for index, done in enumerate((3.0, 5.0)):
        pulse = RunPulse(progress_path(tmp_path, Share(index, 2, partial=True)))
        pulse.beat(stage="tokenize", done=done, total=10, unit="s audio")
    found = newest_progress(tmp_path)
    assert found is not None
    assert (found.stage, found.done, found.total, found.unit) == ("tokenize", 8, 20, "s audio")
    # The job after the array tells of itself.
    RunPulse(progress_path(tmp_path)).beat(stage="train_lm", done=1, total=4)
    found = newest_progress(tmp_path)
    assert found is not None
    assert (found.stage, found.total) == ("train_lm", 4)


def test_last_chain_is_what_depends_on_one_another() -> None:
    first = JobRecord("1", "slurm", ("a",))
    second = [JobRecord("2", "slurm", ("a",)), JobRecord("3", "slurm", ("b",), depends_on=("2",))]
    assert last_chain([first, *second]) == second
    assert last_chain([]) == []


def test_runs_are_found_by_path_name_or_beginning(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path)
    for name in (str(run_dir), "one-1234", "one"):
        assert find_run(name, tmp_path) == run_dir
    other = tmp_path / "one-5678"
    other.mkdir()
    (other / "recipe.yaml").write_text("name: one\nstages: []\n")
    with pytest.raises(WavslmError, match=r"any of these runs in .*: one-1234, one-5678"):
        find_run("one", tmp_path)
    with pytest.raises(WavslmError, match=r"there is no run two, here or in .* Runs there: one-1234"):
        find_run("two", tmp_path)


def test_command_that_started_a_run_is_known_from_its_folder(tmp_path: Path) -> None:
    environment = tmp_path / "environment.json"
    environment.write_text(json.dumps({"command": ["/opt/bin/wavslm-run", "r.yaml", "seed=1"]}))
    assert submitted_with(tmp_path) == ["wavslm-run", "r.yaml", "seed=1"]
    environment.write_text(json.dumps({"command": ["/opt/notebook.py"]}))
    assert submitted_with(tmp_path) is None
