"""What a run tells of how far it is."""

import io
import os
import time
from pathlib import Path

import pytest
from rich.console import Console

from wavslm_core.machine import progress as progress_module
from wavslm_core.machine.processes import Share
from wavslm_core.machine.progress import (
    Progress,
    ProgressFile,
    Reporter,
    progress_bar,
    progress_path,
    read_progress,
    reporting,
)


def told(path: Path) -> Progress:
    found = read_progress(path)
    assert found is not None
    return found


def test_first_and_last_are_written_at_once(tmp_path: Path) -> None:
    path = progress_path(tmp_path)
    file = ProgressFile(path)
    file.tell(stage="train_lm", done=1, total=3, loss=4.0)
    file.tell(stage="train_lm", done=2, total=3, loss=3.0)
    assert (told(path).done, told(path).loss, told(path).rate) == (1, 4.0, None)
    file.tell(stage="train_lm", done=3, total=3, loss=2.0)
    assert (told(path).done, told(path).loss, told(path).seconds_left) == (3, 2.0, 0)
    assert [found.name for found in tmp_path.iterdir()] == ["progress.json"]


def test_another_stage_is_written_at_once_and_starts_its_own_rate(tmp_path: Path) -> None:
    path = progress_path(tmp_path)
    file = ProgressFile(path)
    file.tell(stage="tokenize", done=10, total=40, unit="s audio")
    file.tell(stage="train_lm", done=1, total=3)
    assert (told(path).stage, told(path).unit, told(path).rate) == ("train_lm", "steps", None)


def test_rate_and_time_left_are_those_of_the_last_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    file = ProgressFile(progress_path(tmp_path))
    for done in range(1, 42):
        file.tell(stage="train_lm", done=done, total=141)
        now[0] += 2.0 if done < 11 else 4.0
    found = told(progress_path(tmp_path))
    # The ten quick steps are over a minute ago.
    assert found.rate == pytest.approx(0.25)
    assert found.seconds_left == pytest.approx(400)


def test_disk_that_cannot_be_written_does_not_end_the_run(tmp_path: Path) -> None:
    ProgressFile(tmp_path / "gone" / "progress.json").tell(stage="train_lm", done=1, total=3)
    assert read_progress(tmp_path / "gone" / "progress.json") is None


def test_says_which_job_and_restart_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ARRAY_JOB_ID": "12", "ARRAY_TASK_ID": "3", "JOB_ID": "15"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    path = progress_path(tmp_path, Share(3, 8, partial=True))
    ProgressFile(path).tell(stage="tokenize", done=1)
    assert path.name == "progress-3-of-8.json"
    assert (told(path).job_id, told(path).restarts, told(path).total) == ("12_3", 2, None)


def test_progress_bars_tell_of_their_run(tmp_path: Path) -> None:
    path = progress_path(tmp_path)
    with (
        reporting(Reporter("evaluate", file=ProgressFile(path))),
        progress_bar("score tokens", total=10, unit="tokens") as advance,
    ):
        advance(4)
        advance(6)
    assert (told(path).stage, told(path).done, told(path).unit) == ("evaluate", 10, "tokens")
    with progress_bar("outside", total=10, unit="files") as advance:
        advance(10)
    assert told(path).stage == "evaluate"


def test_to_tell_costs_next_to_nothing(tmp_path: Path) -> None:
    file = ProgressFile(progress_path(tmp_path))
    began = time.process_time()
    for done in range(20_000):
        file.tell(stage="train_lm", done=done, total=20_001, loss=1.0)
    assert (time.process_time() - began) / 20_000 < 50e-6


def test_tells_nothing_through_a_link(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    for name in (f".writing-{os.getpid()}-progress.json", "progress.json"):
        (tmp_path / name).symlink_to(mine)
    ProgressFile(tmp_path / "progress.json").tell(stage="train_lm", done=1, total=3)
    assert told(tmp_path / "progress.json").done == 1
    assert mine.read_text() == "precious"


def test_plain_lines_without_a_terminal() -> None:
    output = io.StringIO()
    with Reporter().steps("train_lm", total=3, console=Console(file=output)) as progress:
        for step in (1, 2, 3):
            progress.update(step, loss=1.25)
        progress.note("done [1/1]")
    lines = output.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("train_lm: step 3/3  loss 1.2500  ")
    assert lines[0].endswith("0:00 left")
    assert lines[1] == "train_lm: done [1/1]"


def test_a_bar_on_a_terminal() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=120)
    with Reporter().steps("train_lm", total=3, done=1, console=console) as progress:
        progress.update(3, loss=1.25)
    assert "3/3" in output.getvalue()
    assert "loss 1.2500" in output.getvalue()


def test_a_silent_one_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter("train_lm", file=ProgressFile(progress_path(tmp_path)), silent=True)
    with reporter.steps("train_lm", total=1) as steps, reporter.bar("score", total=1, unit="s") as advance:
        steps.update(1, loss=1.0)
        steps.note("best so far")
        advance(1)
    assert capsys.readouterr().err == ""
    assert list(tmp_path.iterdir()) == []
