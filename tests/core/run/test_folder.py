"""The folder of a run that could not begin goes away again, and nobody else's does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from wavslm_core.errors import WavslmError
from wavslm_core.run.folder import kept_once_begun
from wavslm_core.run.lock import RunLock
from wavslm_core.run.queued import submitting

SIGNS = ("stages.json", "tasks.json")
Hold = Callable[[Path], AbstractContextManager[object]]
HOLDS = pytest.mark.parametrize(
    "hold", [RunLock, lambda folder: submitting(folder, lambda line: None)], ids=["runs", "submits"]
)


def refused(folder: Path, *trials: Path, by: Callable[[], object] = lambda: None) -> None:
    """Let a command make folders, and fail before anything begins, but after `by`."""

    def begin() -> None:
        for path in (folder, *trials):
            (path / "recipe.yaml").touch()
        by()
        raise WavslmError("refused")

    with pytest.raises(WavslmError, match="refused"), kept_once_begun(folder, trials, signs=SIGNS):
        begin()


def test_what_did_not_begin_is_removed(tmp_path: Path) -> None:
    sweep, trial, old, begun = (tmp_path / name for name in ("sweep", "trial", "old", "begun"))
    old.mkdir()
    refused(sweep, trial, old, begun, by=lambda: (begun / "stages.json").touch())
    assert {path.name for path in tmp_path.iterdir()} == {"old", "begun"}


@HOLDS
def test_a_command_that_is_refused_removes_nothing_of_the_one_that_has_the_run(
    tmp_path: Path, hold: Hold
) -> None:
    folder = tmp_path / "runs" / "one"
    with ExitStack() as other:
        # It came between this one's first look and its refusal.
        refused(folder, by=lambda: other.enter_context(hold(folder)))
        assert (folder / "recipe.yaml").exists()
    refused(folder)
    assert folder.exists(), "this time, it was there before"


@HOLDS
def test_no_trial_is_removed_while_another_command_has_the_sweep(tmp_path: Path, hold: Hold) -> None:
    sweep, *trials = (tmp_path / name for name in ("sweep", "1", "2"))
    with ExitStack() as other:
        refused(sweep, *trials, by=lambda: other.enter_context(hold(sweep)))
        assert all((path / "recipe.yaml").exists() for path in (sweep, *trials))


@HOLDS
def test_a_trial_that_another_command_has_stays(tmp_path: Path, hold: Hold) -> None:
    sweep, *trials = (tmp_path / name for name in ("sweep", "1", "2"))
    with ExitStack() as other:
        refused(sweep, *trials, by=lambda: other.enter_context(hold(trials[1])))
        assert [path.exists() for path in (sweep, *trials)] == [False, False, True]
