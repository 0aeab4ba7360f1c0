"""What `wavslm stop` says of jobs that do not end as told; tests/slurm stops real ones."""

from pathlib import Path

import pytest

from tests.support import fake_programs
from wavslm_core.errors import WavslmError
from wavslm_core.launch import stopping
from wavslm_core.launch.stopping import stop_run
from wavslm_core.run.records import add_jobs, new_record
from wavslm_core.run.stop import STOP_FILE


def test_a_job_that_slurm_does_not_cancel_was_not_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending = "echo '12|PENDING|Priority||0|N/A|0|'"
    fake_programs(tmp_path, monkeypatch, squeue=pending, scancel="exit 0")
    monkeypatch.setattr(stopping, "ENDING_S", 0.2)
    monkeypatch.setattr(stopping, "POLL_S", 0.05)
    run_dir = tmp_path / "one-1234"
    run_dir.mkdir()
    add_jobs(run_dir, [new_record("12", "slurm", ["count"])])
    with pytest.raises(WavslmError, match=r"still runs: job 12. Try `scancel --signal=KILL --full 12`"):
        stop_run(run_dir, lambda line: None, patience_s=0.2)
    assert (run_dir / STOP_FILE).exists(), "should it start after all"
