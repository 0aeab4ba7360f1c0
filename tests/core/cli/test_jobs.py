"""`wavslm jobs` and `wavslm stop` for runs of this machine; tests/slurm has those of a cluster."""

import json
import os
import re
import select
import signal
import sys
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from tests.support import Command, Start, until
from wavslm_core.cli.job_tables import RUN_COLUMNS

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _recipe(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: one\nstages: [{run: count}]\n")


def slow_recipe(folder: Path, *, deaf: str = "false") -> None:
    stage = f"{{run: count, steps: 400, pause_s: 0.2, deaf: {deaf}}}"
    (folder / "r.yaml").write_text(f"name: one\nstages: [{stage}]\n")


def counting(folder: Path, process: Any) -> Path:
    """Wait until the run counts, and return its folder."""
    return until("a run that counts", lambda: [*folder.glob("runs/one-*/progress.json")], process)[0].parent


def test_finished_and_failed_runs_are_listed(tmp_path: Path, command: Command) -> None:
    assert command("main", "jobs").stdout == "no runs in runs\n"
    (tmp_path / "b.yaml").write_text("name: two\nstages: [{run: count}, {run: break}]\n")
    command("run", "r.yaml")
    command("run", "b.yaml", "launch.process=child", code=2)
    listed = command("main", "jobs")
    header, first, second = listed.stdout.splitlines()
    assert header.split() == list(RUN_COLUMNS)
    assert first.split()[1:] == ["finished", "count"]
    assert re.search(r"failed +break +the shelf is empty\. Put something on it\.$", second)

    shown = command("main", "jobs", "two", "--lines", "2").stdout
    assert re.search(r"^job \d+: rank 0 on \S+ the shelf is empty\. Put something on it\.$", shown, re.M)
    assert re.search(r"^log: runs/two-\w+/jobs/\d+_0_log\.out$", shown, re.M), shown


def test_failed_run_in_this_process_shows_its_error_and_log(tmp_path: Path, command: Command) -> None:
    (tmp_path / "b.yaml").write_text("name: two\nstages: [{run: count}, {run: break}]\n")
    command("run", "b.yaml", code=2)
    row = command("main", "jobs").stdout.splitlines()[1]
    assert re.search(r"failed +break +the shelf is empty\. Put something on it\.$", row)
    shown = command("main", "jobs", "two").stdout
    assert "\nthe shelf is empty. Put something on it.\n" in shown
    assert re.search(r"^log: runs/two-\w+/log\.txt$", shown, re.M), shown
    assert "  stage count: finished in" in shown
    assert "  error: the shelf is empty. Put something on it." in shown
    # Taken up again, it says nothing of what was before.
    run_dir = next(tmp_path.glob("runs/two-*"))
    done = {"status": "finished", "started": "", "seconds": 1.0}
    (run_dir / "stages.json").write_text(json.dumps({"count": done, "break": done}))
    command("run", "b.yaml")
    assert not (run_dir / "error.txt").exists()


def test_pruned_run_says_so(tmp_path: Path, command: Command) -> None:
    command("run", "r.yaml")
    run_dir = next(tmp_path.glob("runs/one-*"))
    (run_dir / "stages.json").write_text('{"count": {"status": "interrupted", "seconds": 1.0}}')
    (run_dir / "pruned.json").write_text('{"stage": "count", "step": 2, "valid": {}}')
    assert command("main", "jobs").stdout.splitlines()[1].split()[1] == "pruned"
    assert "behind the other trials of its sweep" in command("main", "jobs", "one").stdout


def test_damaged_run_is_a_row_that_says_so(tmp_path: Path, command: Command) -> None:
    command("run", "r.yaml")
    command("run", "r.yaml", "seed=1")
    first, _ = sorted(tmp_path.glob("runs/one-*"))
    (first / "stages.json").write_text("{")
    listed = command("main", "jobs")
    rows = {line.split()[0]: line for line in listed.stdout.splitlines()[1:] if line.startswith("one-")}
    assert rows[first.name].split()[1] == "damaged"
    assert "stages.json is damaged" in rows[first.name]
    assert sum(" finished " in row for row in rows.values()) == 1


@pytest.mark.parametrize("change", ["launch.device=mps", "launch.on=slurm"])
def test_run_that_never_began_leaves_no_folder(tmp_path: Path, command: Command, change: str) -> None:
    command("run", "r.yaml", change, code=2)
    assert list(tmp_path.glob("runs/one-*")) == []
    # Nothing is taken away from one that has begun.
    command("run", "r.yaml")
    (run_dir,) = tmp_path.glob("runs/one-*")
    (run_dir / "stages.json").write_text('{"count": {"status": "interrupted", "seconds": 1.0}}')
    command("run", "r.yaml", change, code=2)
    assert (run_dir / "count.txt").exists()


def test_unknown_run_is_named(command: Command) -> None:
    for verb in ("jobs", "stop"):
        done = command("main", verb, "nothing", code=2)
        assert done.stdout == ""
        assert "there is no run nothing, here or in runs" in done.stderr


@pytest.mark.parametrize("process", ["this", "child"])
def test_local_run_is_stopped_and_continues(
    tmp_path: Path, start: Start, command: Command, process: str
) -> None:
    slow_recipe(tmp_path)
    running = start("run", "r.yaml", f"launch.process={process}")
    run_dir = counting(tmp_path, running)
    row = command("main", "jobs").stdout.splitlines()[1]
    assert re.search(r"running\s+\S+\s+count\s+\d+/400 numbers", row), row
    stopped = command("main", "stop", "one")
    assert re.search(r"asked to save and to end: process \d+ on \S+$", stopped.stdout, re.M), stopped.stdout
    assert "stopped; everything it did is saved" in stopped.stdout
    assert running.wait(timeout=120) == 130
    assert command("main", "jobs").stdout.splitlines()[1].split()[1] == "interrupted"
    (run_dir / "hurry").touch()
    command("run", "r.yaml")
    assert len((run_dir / "count.txt").read_text().split()) == 400


def test_deaf_local_run_is_ended(tmp_path: Path, start: Start, command: Command) -> None:
    slow_recipe(tmp_path, deaf="true")
    running = start("run", "r.yaml")
    counting(tmp_path, running)
    stopped = command("main", "stop", "one", "--patience", "1")
    assert "did not stop within 1 s" in stopped.stdout
    assert "since it last saved is lost" in stopped.stdout
    assert running.wait(timeout=120) == 130


def test_run_that_nobody_has_cannot_be_stopped(tmp_path: Path, command: Command) -> None:
    command("run", "r.yaml")
    done = command("main", "stop", "one", code=2)
    assert "is not running: its state is finished" in done.stderr
    assert not list(tmp_path.glob("runs/one-*/stop"))


def test_watching_goes_on_until_ctrl_c(tmp_path: Path, example_environment: dict[str, str]) -> None:
    (tmp_path / "runs").mkdir()
    # Only a terminal is shown more than the end.
    terminal, its_end = os.openpty()
    watching = Popen(
        [sys.executable, "-m", "wavslm_core.cli.main", "jobs", "--watch"],
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        cwd=tmp_path,
        env={**example_environment, "TERM": "xterm"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(its_end)
    shown = b""
    while shown.count(b"no runs in runs") < 2:
        ready, _, _ = select.select([terminal], [], [], 120)
        assert ready, shown
        shown += os.read(terminal, 4096)
    assert watching.poll() is None
    watching.send_signal(signal.SIGINT)
    assert watching.wait(timeout=120) == 0, shown
    os.close(terminal)
