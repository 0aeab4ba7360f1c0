"""What the commands say of folders that belong to somebody else or cannot be written."""

import os
import re
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support import Command
from wavslm_core.errors import DataError
from wavslm_core.run.lock import RunLock
from wavslm_core.run.stop import request_stop

Become = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def theirs(command: Command, shared_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run that belongs to root, in a folder where everybody may look but not write."""
    monkeypatch.chdir(shared_folder)
    (shared_folder / "r.yaml").write_text("name: one\nstages: [{run: count}]\n")
    command("run", "r.yaml")
    (run,) = shared_folder.glob("runs/one-*")
    return run


@pytest.mark.parametrize(
    ("changes", "file"),
    [([], ".lock"), (["launch.process=child"], ".lock"), (["stages.count.steps=4"], "recipe.yaml")],
)
def test_a_run_of_somebody_else_is_said_to_be_theirs(
    command: Command, theirs: Path, somebody_else: Become, changes: list[str], file: str
) -> None:
    """Their very run, and another beside it."""
    before = {path: path.stat().st_mtime_ns for path in theirs.parent.rglob("*")}
    with somebody_else():
        done = command("run", "r.yaml", *changes, code=2)
    assert re.fullmatch(
        rf"error: cannot write runs/one-\w+/{file}: Permission denied, \S+ belongs to root\. "
        r"Choose another folder, or have its permissions mended; what stood there before is unchanged\n",
        done.stderr,
    )
    assert {path: path.stat().st_mtime_ns for path in theirs.parent.rglob("*")} == before


def test_a_run_that_goes_on_for_somebody_else_is_said_to_be_in_use(
    command: Command, theirs: Path, somebody_else: Become
) -> None:
    with RunLock(theirs), somebody_else():
        done = command("run", "r.yaml", code=2)
    assert f"is in use by process {os.getpid()} on " in done.stderr


def test_a_run_of_somebody_else_can_be_looked_at_but_not_stopped(
    command: Command, theirs: Path, somebody_else: Become
) -> None:
    command("main", "jobs", str(theirs))
    with somebody_else():
        done = command("main", "jobs", str(theirs))
        with pytest.raises(
            DataError, match=rf"cannot write {theirs}/stop: Permission denied, {theirs} belongs"
        ):
            request_stop(theirs)
    assert "finished" in done.stdout
    (theirs / "stages.json").chmod(0o600)
    with somebody_else():
        done = command("main", "jobs", str(theirs))
    # A row that says so, beside those of others.
    assert "damaged" in done.stdout
    assert "Permission denied" in " ".join(done.stdout.split())


def test_a_read_only_file_system_is_no_bug(
    command: Command, small_disk: Callable[[str], Path], tmp_path: Path
) -> None:
    disk = small_disk("1m")
    (tmp_path / "r.yaml").write_text("name: one\nstages: [{run: count}]\n")
    arguments = ["run", "r.yaml", "--runs-dir", str(disk)]
    command(*arguments)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for changes in ([], ["stages.count.steps=4"]):
        done = command(*arguments, *changes, code=2)
        (line,) = done.stderr.splitlines()
        assert "Read-only file system. Free some space or choose a folder that can be written" in line
