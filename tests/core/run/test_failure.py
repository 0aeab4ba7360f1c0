"""Which process of a job failed first, and what logs say."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from wavslm_core.errors import DataError, JobCrashed, LostProcessError
from wavslm_core.run.failure import (
    GrowingLog,
    describe,
    error_line,
    first_error,
    last_lines,
    to_exception,
    write_error,
)


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


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_the_first_that_did_not_only_lose_another(tmp_path: Path) -> None:
    lost = describe(raised(LostProcessError("rank 1 is gone")), 0)
    later = describe(raised(ValueError("no")), 1)
    write_error(tmp_path, "12", replace(lost, time=1.0))
    assert first_error(tmp_path, "12") == replace(lost, time=1.0)
    write_error(tmp_path, "12", replace(later, time=3.0))
    write_error(tmp_path, "12", replace(later, time=2.0, rank=2))
    # Of another job: task 4 of array 12.
    write_error(tmp_path, "12_4", replace(later, time=0.5))
    first = first_error(tmp_path, "12")
    assert first.rank == 2
    assert first.title.endswith("ValueError: no")
    assert "raise error" in first.details
    assert first_error(tmp_path, "1") is None


@pytest.mark.parametrize(
    "error", [DataError("two\nlines"), OSError(errno.ENOSPC, "No space left on device", "weights.bin")]
)
def test_what_a_user_can_mend_comes_back_as_it_was(tmp_path: Path, error: Exception) -> None:
    write_error(tmp_path, "12", describe(raised(error), 0))
    found = first_error(tmp_path, "12")
    assert found is not None
    assert str(to_exception(found)) == str(error)


def test_a_bug_brings_its_traceback() -> None:
    back = to_exception(describe(raised(ValueError("no")), 0))
    assert isinstance(back, JobCrashed)
    assert str(back) == "ValueError: no"
    assert "Traceback" in back.details
