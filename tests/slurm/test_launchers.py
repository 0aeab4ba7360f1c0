"""What every launcher keeps to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.core.conftest import command, example_environment, example_loaded
from tests.slurm.cluster import Cluster
from tests.slurm.submitted import stages_of
from wavslm_core.launch import slurm as launcher
from wavslm_core.recipe.launch_block import LAUNCH_CONFIGS
from wavslm_core.run.records import read_jobs

__all__ = ["command", "example_environment", "example_loaded"]

LAUNCHES = {
    "debug": ("launch.on=debug",),
    "local": ("launch.on=local",),
    "local, in a child": ("launch.on=local", "launch.process=child"),
    "local, two processes": ("launch.on=local", "launch.processes=2"),
    "slurm": ("launch.on=slurm", "launch.cpus_per_task=1", "--wait"),
}


@pytest.fixture
def launched(slurm: Cluster, command: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Run a recipe of these stages with one of the launchers; return its folder and how the command ended."""

    def call(launch: str, stages: str) -> tuple[Path, Any]:
        (tmp_path / "r.yaml").write_text(f"name: one\nstages: {stages}\n")
        done = command("run", "r.yaml", "launch.device=cpu", *LAUNCHES[launch])
        (run,) = tmp_path.glob("runs/one-*")
        return run, done

    return call


def test_every_launcher_is_here() -> None:
    given = {launch.partition(",")[0] for launch in LAUNCHES}
    assert given == {config.registered_name() for config in LAUNCH_CONFIGS}


@pytest.mark.parametrize("launch", LAUNCHES)
def test_a_run_finishes_and_is_then_skipped(launched: Callable[..., Any], launch: str) -> None:
    # The options of a launcher that is not used do not matter.
    stages = "[{run: count}, {run: count, steps: 2, launch: {exclude: node3}}]"
    run, done = launched(launch, stages)
    assert done.returncode == 0, done.stderr
    assert "finished in" in done.stdout
    assert stages_of(run) == {"count": "finished", "count_2": "finished"}
    if launch != "local, two processes":
        # There both count into one file.
        assert (run / "count.txt").read_text() == "0\n1\n2\n"
    before = json.loads((run / "stages.json").read_text())
    _, again = launched(launch, stages)
    assert again.returncode == 0, again.stderr
    assert "finished before" in again.stdout
    assert json.loads((run / "stages.json").read_text()) == before


@pytest.mark.parametrize("launch", LAUNCHES)
def test_errors_are_one_line_and_an_exit_code(launched: Callable[..., Any], launch: str) -> None:
    run, done = launched(launch, "[{run: break}]")
    assert (done.returncode, done.stderr) == (2, "error: the shelf is empty. Put something on it.\n")
    assert stages_of(run) == {"break": "failed"}


@pytest.mark.parametrize("launch", LAUNCHES)
def test_bugs_name_the_exception(launched: Callable[..., Any], launch: str) -> None:
    _, done = launched(launch, "[{run: break, how: bug}]")
    assert done.returncode == 1
    assert "RuntimeError: a wheel came off" in done.stderr
    assert "Traceback" not in done.stderr


def test_each_job_is_recorded_before_the_next_is_submitted(
    launched: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[int] = []
    given = launcher.submit

    def submit(jobs: Any, launch: Any, run_dir: Path, **options: Any) -> str:
        recorded.append(len(read_jobs(run_dir)))
        return given(jobs, launch, run_dir, **options)

    monkeypatch.setattr(launcher, "submit", submit)
    run, done = launched("slurm", "[{run: count}, {run: count, launch: {memory_gb: 0.5}}]")
    assert done.returncode == 0, done.stderr
    assert recorded == [0, 1]
    assert len(read_jobs(run)) == 2
