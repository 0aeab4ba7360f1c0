"""Restarts that get anywhere are free; those that do not are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from wavslm_core.errors import WavslmError
from wavslm_core.launching.stage_record import STAGES_FILE, StageRecord
from wavslm_core.launching.starts import count_start


def advance(run_dir: Path, how: str, number: int) -> None:
    if how == "stage":
        record = StageRecord(run_dir / STAGES_FILE)
        record.begin(str(number))
        record.end(str(number), "finished", 1.0)
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


@pytest.mark.parametrize("how", ["stage", "checkpoint", "shard"])
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
