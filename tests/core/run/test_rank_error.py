"""Which process of a job failed first."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from wavslm_core.errors import DataError, JobCrashed, LostProcessError
from wavslm_core.run.rank_error import describe, first_error, to_exception, write_error


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
    assert first is not None
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
