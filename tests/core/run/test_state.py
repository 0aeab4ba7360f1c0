"""What a run's folder tells without SLURM, and finding runs."""

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.support import held_elsewhere, until
from wavslm_core.errors import WavslmError
from wavslm_core.machine.processes import Share
from wavslm_core.machine.progress import Progress, ProgressFile, progress_path
from wavslm_core.recipe.yaml import dump_yaml
from wavslm_core.run import saved_stages
from wavslm_core.run.failure import noting_failure
from wavslm_core.run.folder import find_run, find_runs, submitted_with
from wavslm_core.run.lock import RunLock
from wavslm_core.run.lock_holder import CLOCKS_APART_S, Holder
from wavslm_core.run.progress import newest_progress
from wavslm_core.run.records import JobRecord, add_jobs, new_record
from wavslm_core.run.state import RunStatus, last_chain, read_statuses


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


@pytest.mark.parametrize(
    ("statuses", "state", "stage"),
    [
        ({}, "new", ""),
        ({"count": "finished", "count_2": "finished"}, "finished", "count_2"),
        ({"count": "finished"}, "interrupted", "count"),
        ({"count": "finished", "count_2": "interrupted"}, "interrupted", "count_2"),
        ({"count": "failed"}, "failed", "count"),
        ({"count": "running"}, "failed", "count"),
    ],
)
def test_states_of_runs_that_nobody_has(
    tmp_path: Path, statuses: dict[str, str], state: str, stage: str
) -> None:
    status = status_of(make_run(tmp_path, **statuses))
    assert (status.state, status.stage) == (state, stage)


def test_run_that_was_stopped_for_being_behind_is_pruned(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, count="interrupted")
    (run_dir / "pruned.json").write_text(json.dumps({"stage": "count", "step": 5, "valid": {}}))
    assert status_of(run_dir).state == "pruned"
    (spared,) = read_statuses([run_dir], spared=[run_dir])
    assert spared.state == "interrupted"


def test_run_that_only_took_over_what_others_computed_is_new(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, count="finished")
    entries = {"count": {"status": "finished", "seconds": 0.0, "adopted_from": "two-5678"}}
    (run_dir / "stages.json").write_text(json.dumps(entries))
    assert status_of(run_dir).state == "new"


def test_run_that_a_living_process_holds_is_running(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, count="running")
    with RunLock(run_dir):
        status = status_of(run_dir)
    assert (status.state, status.nodes) == ("running", socket.gethostname())


def test_run_whose_process_died_has_failed_without_a_word(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, count="running")
    with held_elsewhere(run_dir) as process:
        assert status_of(run_dir).state == "running"
        process.kill()
        # Dead, though its parent has not looked yet.
        until("the end", lambda: status_of(run_dir).state == "failed")
        assert status_of(run_dir).error == "ended during count without a word: killed, or out of memory?"


def test_process_of_another_machine_is_alive_while_it_may_be(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, count="running")
    for age_s, state in ((200.0, "running"), (2 * CLOCKS_APART_S, "failed")):
        beat = time.time() - age_s
        (run_dir / ".lock").write_text(json.dumps(asdict(Holder(1, "elsewhere", None, beat, beat))))
        assert status_of(run_dir).state == state


def test_error_of_a_run_is_the_first_line_of_what_it_left(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, count="failed")
    assert status_of(run_dir).error == "stage count failed"
    with pytest.raises(WavslmError), noting_failure(run_dir):
        raise WavslmError("the shelf is empty.\nPut something on it.")
    assert status_of(run_dir).error == "the shelf is empty."
    # Taken up again, and stopped by somebody.
    (run_dir / "stages.json").write_text(json.dumps({"count": {"status": "interrupted", "seconds": 0.0}}))
    os.utime(run_dir / "error.txt", (1, 1))
    assert (status_of(run_dir).state, status_of(run_dir).error) == ("interrupted", "")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "stages.json is a folder": lambda run: ((run / "stages.json").unlink(), (run / "stages.json").mkdir()),
    "stages.json is half a file": lambda run: (run / "stages.json").write_text('{"count": {"sta'),
    "stages.json is a list": lambda run: (run / "stages.json").write_text("[1]"),
    "stages.json has no status": lambda run: (run / "stages.json").write_text('{"count": {}}'),
    "stages.json is no text": lambda run: (run / "stages.json").write_bytes(b"\xff\xfe\0"),
    "jobs.json is a number": lambda run: (run / "jobs.json").write_text("7"),
    "jobs.json is of something else": lambda run: (run / "jobs.json").write_text('[{"job_id": "1"}]'),
    "pruned.json is a list": lambda run: (run / "pruned.json").write_text("[1]"),
    "recipe.yaml is no YAML": lambda run: (run / "recipe.yaml").write_text("stages: [}"),
    "recipe.yaml is a folder": lambda run: ((run / "recipe.yaml").unlink(), (run / "recipe.yaml").mkdir()),
    "recipe.yaml is a link to itself": lambda run: (
        (run / "recipe.yaml").unlink(),
        (run / "recipe.yaml").symlink_to("recipe.yaml"),
    ),
    "recipe.yaml nests without end": lambda run: (run / "recipe.yaml").write_text("stages: " + "[" * 300_000),
    "recipe.yaml has no blocks": lambda run: (run / "recipe.yaml").write_text("stages: [1, 2]\n"),
}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("name: one\nstages:\n- run: count\n  a: [1, {b: 2}]\n- {run: count}\nlaunch: {on: local}\n", 2),
        ("stages: [&one {run: count, a: &two [1]}, {run: learn, b: *two}]\n", 2),
        ("? {a: 1}\n: 2\nstages: [{run: count, ? [1] : 2}]\n", 1),
        ("stages:\n", 0),
        ("stages: []\n", 0),
        ("", 0),
    ],
)
def test_stages_of_a_recipe_are_read_whatever_else_is_in_it(tmp_path: Path, text: str, names: int) -> None:
    run_dir = make_run(tmp_path)
    (run_dir / "recipe.yaml").write_text(text)
    status = status_of(run_dir)
    assert status.state == "new"
    assert list(status.stages)[:1] == ["count"][:names]
    assert len(status.stages) == names


def test_saved_stages_are_the_same_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = [1, {"a": "two words\n\nand - more: text"}]
    stages = [{"run": "count", "steps": 2, "at": shared, "none": None}, {"run": "learn", "at": shared}]
    text = dump_yaml(
        {"name": "one", "stages": [*stages, {"run": "count", "steps": 3}], "launch": {"on": "local"}}
    )
    (tmp_path / "recipe.yaml").write_text(text)
    parsed: list[str] = []
    plain = saved_stages._plain
    monkeypatch.setattr(saved_stages, "_plain", lambda text: parsed.append(text) or plain(text))
    found = saved_stages.saved_stages(tmp_path)
    assert parsed == [found for found in parsed if found.startswith("- run: ")]
    monkeypatch.setattr(saved_stages, "_STAGES", re.compile("never"))
    assert found == saved_stages.saved_stages(tmp_path)
    assert list(found) == ["count", "learn", "count_2"]


def progress() -> Progress:
    return Progress("count", 1, 2, "steps", None, None, None, 0.0, "here", 1, None, 0)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_run_says_so_and_hides_no_other(tmp_path: Path, damage: str) -> None:
    run_dir, other = make_run(tmp_path), tmp_path / "two-5678"
    shutil.copytree(run_dir, other)
    DAMAGE[damage](run_dir)
    found = {status.run_dir.name: status for status in read_statuses(find_runs(tmp_path))}
    assert set(found) == {"one-1234", "two-5678"}
    assert found["one-1234"].state == "damaged"
    assert found["one-1234"].error
    assert found["two-5678"].state == "new"


def test_progress_that_cannot_be_read_counts_as_none(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path)
    # Arrays write these beside another, to be compared with it.
    for number, change in enumerate(({}, {"time": "noon"}, {"done": None})):
        document = {**asdict(progress()), **change}
        (run_dir / f"progress-{number}-of-3.json").write_text(json.dumps(document))
    told = newest_progress(run_dir)
    assert (told.stage, told.done) == ("count", 1)
    assert status_of(run_dir).state == "new"


def test_damaged_run_that_somebody_runs_can_still_be_stopped(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path)
    (run_dir / "stages.json").write_text("{")
    with RunLock(run_dir):
        status = status_of(run_dir)
    assert status.state == "damaged"
    assert status.holder is not None


def test_submitted_run_without_slurm_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    run_dir = make_run(tmp_path, count="running")
    add_jobs(run_dir, [new_record("12", "slurm", ["count"])])
    status = status_of(run_dir)
    assert status.state == "unknown"
    assert "no squeue on this machine" in status.problem


def test_progress_of_an_array_of_another_size_is_left_out(tmp_path: Path) -> None:
    for index, count in ((0, 2), (1, 2), (0, 3), (2, 3)):
        file = ProgressFile(progress_path(tmp_path, Share(index, count, partial=True)))
        file.tell(stage="tokenize", done=count, total=10)
    found = newest_progress(tmp_path)
    assert (found.done, found.total) == (6, 20)


def test_progress_of_the_tasks_of_an_array_is_summed(tmp_path: Path) -> None:
    for index, done in enumerate((3.0, 5.0)):
        file = ProgressFile(progress_path(tmp_path, Share(index, 2, partial=True)))
        file.tell(stage="tokenize", done=done, total=10, unit="s audio")
    found = newest_progress(tmp_path)
    assert (found.stage, found.done, found.total, found.unit) == ("tokenize", 8, 20, "s audio")
    # The job after the array tells of itself.
    ProgressFile(progress_path(tmp_path)).tell(stage="train_lm", done=1, total=4)
    found = newest_progress(tmp_path)
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
