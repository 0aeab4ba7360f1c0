"""What is read from SLURM's tables; tests/slurm asks a real one."""

import os
from pathlib import Path

import pytest

from tests.support import fake_programs
from wavslm_core.errors import WavslmError
from wavslm_core.machine.slurm import JobState, is_active, job_states, read_sacct, read_squeue

# Of SLURM 22.05, with spaces taken out.
SQUEUE = """\
5 |FAILED |NonZeroExitCode |node1 |0 |2026-11-25T02:56:33 |33280 |
1_1 |PENDING |BeginTime | |1 |NONE |0 |
2 |PENDING |Dependency | |0 |N/A |0 |
1_3 |RUNNING |None |node[2-3] |0 |2027-11-25T02:56:34 |0 |
"""
SACCT = """\
2|PENDING|0:0|None assigned|Unknown
3|FAILED|3:0|node1|2026-11-25T02:56:33
4|CANCELLED by 0|0:0|None assigned|2026-11-25T02:57:13
1_0|TIMEOUT|0:0|node2|2026-11-25T02:57:03
7_[1-2,5%2]|CANCELLED by 0|0:0|None assigned|2026-11-25T02:57:13
"""


def test_squeue_is_read() -> None:
    failed, requeued, waits, runs = read_squeue(SQUEUE)
    assert failed == JobState("5", "FAILED", "NonZeroExitCode", "node1", 0, "2026-11-25T02:56:33", "130:0")
    assert not failed.active
    assert requeued == JobState("1_1", "PENDING", "BeginTime", "", 1)
    assert requeued.waits
    assert waits.reason == "Dependency"
    assert (runs.nodes, runs.reason, runs.active, runs.waits) == ("node[2-3]", "", True, False)
    assert (runs.ended, runs.exit_code) == ("", "")


def test_sacct_is_read_with_ranges_of_tasks_and_who_cancelled() -> None:
    states = {state.job_id: state for state in read_sacct(SACCT)}
    assert list(states) == ["2", "3", "4", "1_0", "7_1", "7_2", "7_5"]
    assert states["3"] == JobState("3", "FAILED", "", "node1", None, "2026-11-25T02:56:33", "3:0")
    assert states["4"].state == states["7_5"].state == "CANCELLED"
    assert states["2"].ended == states["2"].nodes == ""


def test_without_slurm_the_answer_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WavslmError, match="no squeue on this machine"):
        job_states(["12"])
    assert is_active("12") is None


def test_slurm_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = "squeue: error: Unable to contact slurm controller"
    fake_programs(tmp_path, monkeypatch, squeue=f"echo '{words}' >&2; exit 1")
    with pytest.raises(WavslmError, match="Unable to contact slurm controller"):
        job_states(["12"])


def test_no_job_needs_no_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert job_states([]) == {}


def test_tasks_that_were_cancelled_before_they_began_are_known_without_accounts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # What squeue shows of an array of four when all that waits is cancelled: its number, and no tasks.
    squeue = (
        "echo '15 |CANCELLED |JobArrayTaskLimit | |0 |2026-11-25T02:57:13 |0 |'\n"
        "echo '15_0 |FAILED |NonZeroExitCode |node1 |0 |2026-11-25T02:57:13 |33280 |'\n"
    )
    fake_programs(tmp_path, monkeypatch, squeue=squeue, sacct="exit 1")
    states = job_states(["15_0", "15_1", "15_3", "16_1"])
    assert {job_id: state.state for job_id, state in states.items()} == {
        "15_0": "FAILED",
        "15_1": "CANCELLED",
        "15_3": "CANCELLED",
    }
    assert states["15_3"].stopped
    assert not is_active("15_1")


def test_a_task_that_ended_long_before_the_rest_was_cancelled_keeps_its_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sacct = (
        "echo '15_0|OUT_OF_MEMORY|0:125|node1|2026-11-25T02:37:13'\n"
        "echo '15_[1-2%1]|PENDING|0:0|None assigned|Unknown'\n"
    )
    cancelled = "echo '15 |CANCELLED |JobArrayTaskLimit | |0 |2026-11-25T02:57:13 |0 |'"
    fake_programs(tmp_path, monkeypatch, squeue=cancelled, sacct=sacct)
    states = {job_id: state.state for job_id, state in job_states(["15_0", "15_1", "15_2"]).items()}
    assert states == {"15_0": "OUT_OF_MEMORY", "15_1": "CANCELLED", "15_2": "CANCELLED"}


@pytest.mark.parametrize("accounts", [True, False])
def test_the_whole_queue_is_asked_for_only_when_nobody_else_knows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, accounts: bool
) -> None:
    programs = {
        "squeue": f"""
            echo "squeue $*" >> {tmp_path}/asked
            case "$*" in
                *--user={os.getuid()}*) echo "5|RUNNING|None|node1|0|N/A|0|" ;;
                *) echo "5|RUNNING|None|node1|0|N/A|0|"; echo "6|RUNNING|None|node2|0|N/A|0|" ;;
            esac""",
        "sacct": "echo '6|RUNNING|0:0|node2|Unknown'" if accounts else "exit 1",
    }
    fake_programs(tmp_path, monkeypatch, **programs)

    def asked() -> int:
        lines = (tmp_path / "asked").read_text().splitlines()
        (tmp_path / "asked").unlink()
        return len(lines)

    assert is_active("5")
    assert asked() == 1
    assert is_active("6"), "the job of another user runs, too"
    assert asked() == (1 if accounts else 2)
