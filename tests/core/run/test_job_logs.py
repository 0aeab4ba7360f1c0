"""Logs that grow, their ends, and errors in them."""

from __future__ import annotations

from pathlib import Path

from wavslm_core.run.job_logs import GrowingLog, error_line, last_lines


def test_lines_are_given_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = GrowingLog(path)
    assert log.new_lines() == []
    path.write_bytes("one\ntwö".encode()[:-1])
    assert log.new_lines() == ["one"]
    with path.open("ab") as stream:
        stream.write("ö".encode()[-1:] + b"\nthr")
    assert log.new_lines() == ["twö"]
    assert log.new_lines() == []
    assert log.new_lines(ended=True) == ["thr"]
    assert log.new_lines(ended=True) == []


def test_log_that_is_written_anew_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("a long first line\n")
    log = GrowingLog(path)
    assert log.new_lines() == ["a long first line"]
    path.write_text("again\n")
    assert log.new_lines() == ["again"]


def test_tail_reads_only_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("x" * 100_000 + "\n\n" + "last but one\n\nlast\n")
    assert last_lines(path, 2) == ["last but one", "last"]
    assert last_lines(path, 0) == []
    assert last_lines(tmp_path / "none", 2) == []


def test_first_line_that_looks_like_an_error_is_found(tmp_path: Path) -> None:
    quiet, loud = tmp_path / "quiet", tmp_path / "loud"
    quiet.write_text("stage count: running\nmean error: 3\n")
    loud.write_text("srun: Job step\nslurmstepd: error: *** STEP CANCELLED ***\nrank 1: error: lost\n")
    assert error_line([quiet]) is None
    assert error_line([tmp_path / "none", quiet, loud]) == "slurmstepd: error: *** STEP CANCELLED ***"
