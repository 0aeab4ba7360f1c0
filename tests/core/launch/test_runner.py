"""Runs as a user sees them: continue, skip, refuse, stop, and end in every way that a stage can end."""

import json
import os
import select
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import FAKES, Command, Start, run_without, until
from wavslm_core.launch import runner
from wavslm_core.recipe.launch_block import LAUNCH_CONFIGS
from wavslm_core.run.records import add_jobs, new_record, read_jobs

pytestmark = pytest.mark.slow

LAUNCHERS = ["launch.on=debug", "launch.process=this", "launch.process=child"]
PROCESSES = ["launch.process=this", "launch.process=child"]
TWO = "launch.processes=2"
BUG = "RuntimeError: a wheel came off; report it to its authors; --traceback shows all"


def recipe(folder: Path, stages: str) -> None:
    (folder / "r.yaml").write_text(f"name: one\nstages: {stages}\n")


def only_run(folder: Path) -> Path:
    (run,) = [path for path in (folder / "runs").iterdir() if path.name.startswith("one-")]
    return run


def wait_for_words(words: str, process: Any) -> None:
    """Wait until a process has said something, wherever it says it."""
    said = {process.stdout.fileno(): b"", process.stderr.fileno(): b""}
    while not any(words.encode() in text for text in said.values()):
        ready, _, _ = select.select(list(said), [], [], 120)
        assert ready, said
        for descriptor in ready:
            found = os.read(descriptor, 4096)
            assert found, said
            said[descriptor] += found


def counting_run(folder: Path, process: Any) -> Path:
    """Wait until a run counts, and return its folder."""
    return until("a run that counts", lambda: [*folder.glob("runs/one-*/count.txt")], process)[0].parent


def test_every_launcher_is_tested() -> None:
    here = {launch.partition("=")[2] for launch in LAUNCHERS if launch.startswith("launch.on=")}
    assert {*here, "local", "slurm"} == {config.registered_name() for config in LAUNCH_CONFIGS}


@pytest.mark.parametrize("launch", [*LAUNCHERS, TWO])
def test_a_run_finishes_and_is_then_skipped(tmp_path: Path, command: Command, launch: str) -> None:
    # The options of a launcher that is not used do not matter.
    recipe(tmp_path, "[{run: count, launch: {exclude: node3}}, {run: count, steps: 2}]")
    done = command("run", "r.yaml", launch, "launch.device=cpu")
    assert "stage count_2: finished in" in done.stdout
    assert done.stderr == ""
    run = only_run(tmp_path)
    counted = (run / "count.txt").read_text()
    if launch != TWO:
        # There both count into one file.
        assert counted == "0\n1\n2\n"
        assert (run / "count_2.txt").read_text() == "0\n1\n"
    stages = json.loads((run / "stages.json").read_text())
    assert [entry["status"] for entry in stages.values()] == ["finished", "finished"]
    saved = yaml.safe_load((run / "recipe.yaml").read_text())
    assert saved["stages"][1] == {"run": "count", "steps": 2, "pause_s": 0.0, "deaf": False}
    environment = json.loads((run / "environment.json").read_text())
    assert environment["plugins"] == {"wavslm-example": "1.0"}
    assert environment["torch"]
    again = command("run", "r.yaml", launch, "launch.device=cpu")
    assert again.stdout.count("finished before, skipped") == 2
    assert (run / "count.txt").read_text() == counted
    assert json.loads((run / "stages.json").read_text()) == stages


@pytest.mark.parametrize(
    ("launch", "how", "code", "said"),
    [
        (PROCESSES[0], "mendable", 2, "error: the shelf is empty. Put something on it."),
        (PROCESSES[1], "mendable", 2, "error: the shelf is empty. Put something on it."),
        # What an error of a child becomes here is tested in run/test_failure.py.
        (PROCESSES[0], "disk", 2, "error: the disk is full while writing weights.bin."),
        (PROCESSES[0], "bug", 1, BUG),
        (PROCESSES[1], "bug", 1, BUG),
    ],
)
def test_errors_are_one_line_and_an_exit_code(
    tmp_path: Path, command: Command, launch: str, how: str, code: int, said: str
) -> None:
    recipe(tmp_path, f"[{{run: count}}, {{run: break, how: {how}}}]")
    done = command("run", "r.yaml", launch, code=code)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    run = only_run(tmp_path)
    assert json.loads((run / "stages.json").read_text())["break"]["status"] == "failed"
    if how == "bug":
        again = command("run", "r.yaml", "--traceback", launch, code=1)
        assert "stage count: finished before" in again.stdout
        assert 'raise RuntimeError("a wheel came off")' in again.stderr


def test_what_a_later_stage_lacks_is_told_before_the_first_begins(tmp_path: Path, command: Command) -> None:
    recipe(tmp_path, "[{run: count}, {run: break, how: bare}]")
    lacks = "stage break needs hammer, which is not installed. Install it with: pip install hammer"
    planned = command("run", "r.yaml", "--dry-run", "launch.device=cpu")
    assert f"warning: {lacks}" in planned.stdout
    done = command("run", "r.yaml", "launch.device=cpu", code=2)
    assert done.stderr.startswith(f"error: {lacks}")
    assert "stage count: running" not in done.stdout
    # Once it is there, or is asked for no more, the run goes on.
    recipe(tmp_path, "[{run: count}]")
    command("run", "r.yaml", "launch.device=cpu")


def test_a_run_without_tensors_needs_no_torch(tmp_path: Path, example_environment: dict[str, str]) -> None:
    document = {"name": "one", **FAKES, "stages": [{"run": "count"}], "launch": {"device": "cpu"}}
    (tmp_path / "r.yaml").write_text(json.dumps(document))
    for said in ("stage count: finished in", "stage count: finished before, skipped"):
        assert said in run_without({"torch"}, "wavslm-run", "r.yaml", env=example_environment, cwd=tmp_path)


def test_a_pruned_trial_is_not_finished(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r.yaml").write_text(json.dumps({"name": "one", "stages": [{"run": "descend"}], **FAKES}))
    monkeypatch.setattr(runner, "_judge", lambda run_dir: lambda *_: True)
    done = command("run", "r.yaml", code=130)
    assert "finished in" not in done.stdout
    assert "ended early during stage descend: behind the other trials of its sweep" in done.stderr


def test_what_slurm_may_still_have_is_not_run(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe(tmp_path, "[{run: count}]")
    command("run", "r.yaml")
    run = only_run(tmp_path)
    add_jobs(run, [new_record("12", "slurm", ["count"])])
    monkeypatch.setenv("PATH", str(tmp_path))
    done = command("run", "r.yaml", code=2)
    assert "was submitted to SLURM before, and jobs of it may wait or run. SLURM cannot be" in done.stderr
    (run / "jobs.json").unlink()
    command("run", "r.yaml")


def test_a_killed_child_is_reported_and_what_it_left_does_not_count_for_another_of_its_number(
    tmp_path: Path, command: Command
) -> None:
    recipe(tmp_path, "[{run: break, how: killed}]")
    done = command("run", "r.yaml", "launch.process=child", code=1)
    assert "the job ended without a result: it was killed (out of memory?) or crashed" in done.stderr
    run = only_run(tmp_path)
    (earlier,) = read_jobs(run)
    kept = [run / "jobs" / f"{earlier.job_id}_0_{kind}" for kind in ("result.pkl", "error.json")]
    for path in kept:
        path.touch()
    done = command("run", "r.yaml", "launch.process=child", code=1)
    assert "the job ended without a result" in done.stderr
    assert not any(path.exists() for path in kept)
    assert not list(run.glob("jobs/*_starts.json")), "only SLURM starts a job again"
    assert (run / earlier.logs[0]).exists()


def test_one_of_two_processes_that_is_killed_takes_the_other_along(tmp_path: Path, command: Command) -> None:
    recipe(tmp_path, "[{run: break, how: killed, rank: 1}]")
    done = command("run", "r.yaml", "launch.processes=2", "launch.device=cpu", code=2)
    assert "process 0 of 2 lost another one (it said nothing: was it killed" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("launch", "number"),
    [
        (PROCESSES[0], signal.SIGTERM),
        (PROCESSES[0], signal.SIGINT),
        (PROCESSES[1], signal.SIGINT),
        (TWO, signal.SIGINT),
    ],
)
def test_a_signal_stops_safely_and_the_same_command_continues(
    tmp_path: Path, command: Command, start: Start, launch: str, number: signal.Signals
) -> None:
    recipe(tmp_path, "[{run: count, steps: 999, pause_s: 0.5}]")
    process = start("run", "r.yaml", launch, "launch.device=cpu")
    run = counting_run(tmp_path, process)
    if number == signal.SIGINT:
        # As at a terminal: it reaches every process, and asks each once.
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "stopping at the next safe point" in output + errors
    assert f"interrupted during stage count; to continue: wavslm-run r.yaml {launch}" in errors
    assert json.loads((run / "stages.json").read_text())["count"]["status"] == "interrupted"
    assert 0 < len((run / "count.txt").read_text().split()) < 999
    if launch != TWO:
        # There both count into one file.
        (run / "hurry").touch()
        command("run", "r.yaml", launch)
        assert (run / "count.txt").read_text().split() == [str(step) for step in range(999)]


@pytest.mark.parametrize("launch", PROCESSES)
def test_the_second_signal_leaves_at_once(tmp_path: Path, start: Start, launch: str) -> None:
    recipe(tmp_path, "[{run: count, steps: 1000, pause_s: 0.1, deaf: true}]")
    process = start("run", "r.yaml", launch)
    counted = counting_run(tmp_path, process) / "count.txt"
    process.send_signal(signal.SIGINT)
    # Of two signals that come before one was handled, there is one.
    wait_for_words("stopping at the next safe point", process)
    heard = len(counted.read_text().split())
    # The first one only asks.
    until("three numbers more", lambda: len(counted.read_text().split()) >= heard + 3, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130


def test_a_killed_run_leaves_no_stale_lock(tmp_path: Path, command: Command, start: Start) -> None:
    recipe(tmp_path, "[{run: count, steps: 999, pause_s: 0.1}]")
    process = start("run", "r.yaml")
    run = counting_run(tmp_path, process)
    request = run / "stop"
    before = (run / "recipe.yaml").stat().st_mtime_ns, (run / "code.json").stat().st_mtime_ns
    for launch in LAUNCHERS:
        second = command("run", "r.yaml", launch, code=2)
        assert f"is in use by process {process.pid} on" in second.stderr
    after = (run / "recipe.yaml").stat().st_mtime_ns, (run / "code.json").stat().st_mtime_ns
    assert before == after, "whoever has it reads them"
    # Nor is the request to stop taken back that somebody has just made.
    request.touch()
    command("run", "r.yaml", code=2)
    assert request.exists()
    request.unlink()
    process.kill()
    process.communicate()
    (run / "hurry").touch()
    command("run", "r.yaml")
    assert (run / "count.txt").read_text().split() == [str(step) for step in range(999)]


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path, command: Command) -> None:
    recipe(tmp_path, "[{run: count}]")
    command("run", "r.yaml")
    saved = only_run(tmp_path) / "recipe.yaml"
    saved.write_text(saved.read_text().replace("steps: 3", "steps: 4"))
    done = command("run", "r.yaml", code=2)
    assert "was edited: stages.0.steps is 4, but the recipe says 3. Delete the folder" in done.stderr
    assert "steps: 4" in saved.read_text(), "what the user did stays"


def test_damaged_stage_records_and_unwritable_folders(tmp_path: Path, command: Command) -> None:
    recipe(tmp_path, "[{run: count}]")
    command("run", "r.yaml")
    (only_run(tmp_path) / "stages.json").write_text('{"count"')
    done = command("run", "r.yaml", code=2)
    assert "stages.json is damaged" in done.stderr
    (tmp_path / "file").write_text("")
    done = command("run", "r.yaml", "--runs-dir", "file", code=2)
    assert "cannot write" in done.stderr


def test_a_device_that_is_not_there(tmp_path: Path, command: Command) -> None:
    recipe(tmp_path, "[{run: count}]")
    done = command("run", "r.yaml", "launch.device=mps", code=2)
    assert "launch.device is mps, but PyTorch sees none here. Usable: auto, cpu" in done.stderr
