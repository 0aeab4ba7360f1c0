"""Restarts that get anywhere are free; those that do not are counted."""

from pathlib import Path

import pytest

from wavslm_core.errors import WavslmError
from wavslm_core.machine.progress import ProgressFile, progress_path
from wavslm_core.run.progress import count_start
from wavslm_core.run.records import STAGES_FILE, StageRecord


def advance(run_dir: Path, how: str, number: int) -> None:
    if how == "stage":
        record = StageRecord(run_dir / STAGES_FILE)
        record.begin(str(number))
        record.end(str(number), "finished", 1.0)
        return
    if how == "progress":
        tell(run_dir, "evaluate", number + 1)
        return
    folder, name = (
        ("checkpoints/train_lm", f"step-{number:08}.pt")
        if how == "checkpoint"
        else ("tokens/train", f"{number}")
    )
    (run_dir / folder).mkdir(parents=True, exist_ok=True)
    for old in (run_dir / folder).glob("step-*"):
        old.unlink()
    (run_dir / folder / name).touch()


def tell(run_dir: Path, stage: str, done: float) -> None:
    ProgressFile(progress_path(run_dir)).tell(stage=stage, done=done)


@pytest.mark.parametrize("how", ["stage", "checkpoint", "shard", "progress"])
def test_any_number_of_restarts_that_advance(tmp_path: Path, how: str) -> None:
    for number in range(6):
        assert count_start(tmp_path, "7", max_restarts=0).restarts == number
        advance(tmp_path, how, number)


def test_restarts_in_vain_end(tmp_path: Path) -> None:
    for _ in range(3):
        count_start(tmp_path, "7", max_restarts=2)
    with pytest.raises(WavslmError, match="restarted 3 times in a row without getting any further"):
        count_start(tmp_path, "7", max_restarts=2)
    assert count_start(tmp_path, "8", max_restarts=2).restarts == 0, "another job begins afresh"


def test_one_that_advances_forgives_the_others(tmp_path: Path) -> None:
    for number in range(3):
        count_start(tmp_path, "7", max_restarts=1)
        assert count_start(tmp_path, "7", max_restarts=1).useless == 1
        advance(tmp_path, "checkpoint", number)


def test_a_later_stage_advances_below_the_steps_of_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "train_codec").mkdir(parents=True)
    (tmp_path / "checkpoints" / "train_codec" / "step-00003000.pt").touch()
    for number in range(5):
        assert count_start(tmp_path, "7", max_restarts=0).useless == 0
        advance(tmp_path, "checkpoint", 100 * (number + 1))


def test_what_begins_anew_each_time_only_counts_when_it_gets_further_than_ever(tmp_path: Path) -> None:
    count_start(tmp_path, "7", max_restarts=2)
    useless = []
    for done in (40, 37, 39, 41, 12, 41):
        tell(tmp_path, "evaluate", done)
        useless.append(count_start(tmp_path, "7", max_restarts=2).useless)
    assert useless == [0, 1, 2, 0, 1, 2]


def test_the_progress_of_a_finished_stage_is_no_measure_for_the_next(tmp_path: Path) -> None:
    record = StageRecord(tmp_path / STAGES_FILE)
    record.begin("train_lm")
    tell(tmp_path, "train_lm", 3000)
    record.end("train_lm", "finished", 1.0)
    count_start(tmp_path, "7", max_restarts=0)
    tell(tmp_path, "evaluate", 50)
    assert count_start(tmp_path, "7", max_restarts=0).useless == 0


def test_what_a_killed_process_left_is_no_advance(tmp_path: Path) -> None:
    (tmp_path / "tokens" / "train").mkdir(parents=True)
    count_start(tmp_path, "7", max_restarts=2)
    (tmp_path / "tokens" / "train" / ".writing-01234567-tokens-00000.bin").touch()
    assert count_start(tmp_path, "7", max_restarts=2).useless == 1
