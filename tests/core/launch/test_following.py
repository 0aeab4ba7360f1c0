"""How a run is said to have ended whose jobs SLURM has forgotten; tests/slurm follows real ones."""

from pathlib import Path

import pytest

from tests.support import fake_programs
from wavslm_core.errors import JobCrashed
from wavslm_core.launch import following
from wavslm_core.launch.following import follow
from wavslm_core.run.records import STAGES_FILE, StageRecord, add_jobs, new_record


@pytest.fixture
def forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run with a chain of two jobs, an array first, that a SLURM without accounts forgot."""
    fake_programs(tmp_path, monkeypatch, squeue="exit 0", sacct="exit 1")
    monkeypatch.setattr(following, "UNKNOWN_S", 0.0)
    run_dir = tmp_path / "one-1234"
    run_dir.mkdir()
    array = new_record("12", "slurm", ["tokenize"], array=2)
    add_jobs(run_dir, [array, new_record("13", "slurm", ["tokenize", "train_lm"], depends_on=["12"])])
    return run_dir


def finish(run_dir: Path, stage: str) -> None:
    record = StageRecord(run_dir / STAGES_FILE)
    record.begin(stage)
    record.end(stage, "finished", 1.0)


def test_forgotten_jobs_whose_stages_finished_have_finished(forgotten: Path) -> None:
    finish(forgotten, "tokenize")
    finish(forgotten, "train_lm")
    assert follow(forgotten, lambda line: None).status == "finished"


def test_forgotten_jobs_with_stages_left_have_not(forgotten: Path) -> None:
    finish(forgotten, "tokenize")
    with pytest.raises(JobCrashed, match="job 13 is not known to SLURM any more"):
        follow(forgotten, lambda line: None)
