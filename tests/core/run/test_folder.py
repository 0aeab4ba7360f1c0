"""A run's folder: its recipe is read once, and one in which nothing could begin goes away again."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from wavslm_core.errors import RecipeError, WavslmError
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run import folder
from wavslm_core.run.folder import kept_once_begun, prepare_run_folder, saved_recipe
from wavslm_core.run.lock import RunLock
from wavslm_core.run.queued import submitting

SIGNS = ("stages.json", "tasks.json")
Hold = Callable[[Path], AbstractContextManager[object]]
HOLDS = pytest.mark.parametrize(
    "hold", [RunLock, lambda folder: submitting(folder, lambda line: None)], ids=["runs", "submits"]
)


def refused(made: Path, *trials: Path, by: Callable[[], object] = lambda: None) -> None:
    """Let a command make folders, and fail before anything begins, but after `by`."""

    def begin() -> None:
        for path in (made, *trials):
            (path / "recipe.yaml").touch()
        by()
        raise WavslmError("refused")

    with pytest.raises(WavslmError, match="refused"), kept_once_begun(made, trials, signs=SIGNS):
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


def test_a_saved_recipe_is_parsed_once_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = resolve(recipe_from_dict({"name": "one", "seed": 3}))
    run_dir = prepare_run_folder(recipe, tmp_path)
    assert saved_recipe(run_dir) is recipe, "who wrote it need not read it"
    parsed: list[str] = []
    monkeypatch.setattr(folder, "resolve", lambda recipe: parsed.append(recipe.name) or resolve(recipe))
    saved = run_dir / folder.RECIPE_FILE
    edited = saved.with_name("edited")
    edited.write_text(saved.read_text().replace("seed: 3", "seed: 4"))
    edited.replace(saved)
    assert [saved_recipe(run_dir).seed for _ in range(3)] == [4, 4, 4]
    assert parsed == ["one"]
    saved.unlink()
    for _ in range(2):
        with pytest.raises(RecipeError, match="there is no recipe"):
            saved_recipe(run_dir)
