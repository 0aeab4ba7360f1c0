"""The folder of a run: `<runs-dir>/<name>-<digest>/`, named by what it computes, so that the same command
again finds it and continues there; and how people find it.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from wavslm_core.errors import RecipeError, WavslmError
from wavslm_core.machine.files import write_json, write_text
from wavslm_core.machine.json_files import MISSING, differences, parse_json
from wavslm_core.machine.progress import PROGRESS_FILE
from wavslm_core.machine.regular_files import read_regular
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import Registry
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import ResolvedRecipe, without_launch
from wavslm_core.recipe.resolving import resolve
from wavslm_core.recipe.yaml import dump_yaml, read_yaml
from wavslm_core.run.context import StageContext
from wavslm_core.run.environment import describe_environment
from wavslm_core.run.queued import held_alone
from wavslm_core.run.records import JOBS_FILE, STAGES_FILE, StageRecord

RECIPE_FILE = "recipe.yaml"
ENVIRONMENT_FILE = "environment.json"
SAMPLE_FILE = "sample.json"
"""Beside the WAVs and the picture of one prompt, in the folder of `generate`'s samples."""
BEGUN = (STAGES_FILE, JOBS_FILE)
MOST_PARSED = 8
_PARSED: dict[tuple[Any, ...], ResolvedRecipe] = {}
"""Version of a saved recipe → what is in it; a process asks for its run's again and again."""


def run_folder(recipe: ResolvedRecipe, runs_dir: Path) -> Path:
    """Return where a recipe's run lives."""
    return runs_dir / recipe.run_name


def prepare_run_folder(
    recipe: ResolvedRecipe, runs_dir: Path, *, environment: Mapping[str, Any] | None = None
) -> Path:
    """Make the folder, or check that it holds this very recipe, and write recipe and environment into it.

    `environment`: as `describe_environment` gives it, if that was asked before.
    Raises: RecipeError when it holds another recipe, DataError when it cannot be written.
    """
    folder = run_folder(recipe, runs_dir)
    saved = folder / RECIPE_FILE
    if saved.exists():
        for difference in differences(recipe.identity(), without_launch(read_yaml(saved))):
            raise RecipeError(
                f"{saved} was edited: {_in_words(*difference)}. Delete the folder to start afresh, undo the "
                "edit, or put the change into your own recipe, which gives it a folder of its own."
            )
    write_text(saved, dump_yaml(recipe.to_dict()))
    _keep(_version(saved, recipe.registry), recipe)
    write_json(folder / ENVIRONMENT_FILE, environment or describe_environment())
    return folder


@contextmanager
def kept_once_begun(
    folder: Path, trials: Iterable[Path] = (), *, signs: Sequence[str] = BEGUN
) -> Iterator[None]:
    """Make a run's folder, or that of a sweep and of its trials, for the block to fill.

    Those that were not there before are removed again if it raises before anything in them has begun: a run
    that could not even start would else be listed among those that did. Not while another command has them,
    and no trial while one has the sweep. `signs`: files of which one is there once something has begun.
    """
    made = [path for path in (*trials, folder) if _make(path)]
    try:
        yield
    except BaseException:
        if made:
            with suppress(WavslmError), held_alone(folder):
                for path in made:
                    _remove(path, signs, held=path == folder)
        raise


def _make(folder: Path) -> bool:
    """Make a folder; False when it was there, or when it is for whoever writes into it to say why not."""
    try:
        folder.mkdir(parents=True)
    except OSError:
        return False
    return True


def _remove(folder: Path, signs: Sequence[str], *, held: bool) -> None:
    """Remove a folder in which nothing has begun, unless somebody has it. `held`: this process has."""
    with suppress(WavslmError), nullcontext() if held else held_alone(folder):
        if not any((folder / name).exists() for name in signs):
            shutil.rmtree(folder, ignore_errors=True)


def saved_recipe(folder: Path, *, registry: Registry | None = None) -> ResolvedRecipe:
    """Return the resolved recipe of a run folder, parsed once a process. Raises: RecipeError."""
    path = folder / RECIPE_FILE
    registry = load_registry() if registry is None else registry
    version = _version(path, registry)
    if version not in _PARSED:
        _keep(version, resolve(recipe_from_dict(read_yaml(path), source=str(path), registry=registry)))
    return _PARSED[version]


def _version(path: Path, registry: Registry) -> tuple[Any, ...]:
    """Return what tells a saved recipe from any other: such files are replaced, never written into."""
    try:
        found = path.stat()
    except OSError:
        # Reading it says what is wrong.
        return (object(),)
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size, registry


def _keep(version: tuple[Any, ...], recipe: ResolvedRecipe) -> None:
    _PARSED[version] = recipe
    if len(_PARSED) > MOST_PARSED:
        del _PARSED[next(iter(_PARSED))]


def samples_folder(stage: str) -> str:
    """Return where in a run's folder a stage leaves its samples: each `generate` has a place of its own."""
    return "samples" if stage == "generate" else f"samples_{stage}"


def readable(name: str) -> str:
    """Return "continuation 1" for "continuation_0": people count from one."""
    stem, _, number = name.rpartition("_")
    return f"{stem} {int(number) + 1}" if stem and number.isdigit() else name


def _in_words(where: str, wanted: Any, found: Any) -> str:
    """Return how a saved recipe differs from the one that is wanted."""
    if found is MISSING:
        return f"{where} is missing"
    if wanted is MISSING:
        return f"{where} is not part of the recipe"
    return f"{where} is {found!r}, but the recipe says {wanted!r}"


class _Environment(TypedDict):
    """What is read of a run's `environment.json`."""

    command: list[str]


def find_runs(runs_dir: Path) -> list[Path]:
    """Return the folders of all runs, the ones that changed last at the end.

    One that cannot be looked into is among them: it may be a run. Raises: WavslmError for `runs_dir` itself.
    """
    try:
        found = [Path(entry.path) for entry in os.scandir(runs_dir) if _is_run(Path(entry.path))]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise WavslmError(
            f"{runs_dir} cannot be read: {error.strerror}. Give the folder of runs with --runs-dir."
        ) from None
    return sorted(found, key=lambda run_dir: (_changed(run_dir), run_dir.name))


def _is_run(folder: Path) -> bool:
    try:
        os.lstat(folder / RECIPE_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def find_run(name: str, runs_dir: Path) -> Path:
    """Return the folder that a path, the name of a run, or the only beginning of one, means.

    Raises: WavslmError.
    """
    for place in (Path(name), runs_dir / name):
        if _is_run(place):
            return place
    begins = [run_dir for run_dir in find_runs(runs_dir) if run_dir.name.startswith(name)]
    if len(begins) == 1:
        return begins[0]
    if begins:
        several = ", ".join(run_dir.name for run_dir in begins)
        raise WavslmError(f"{name} may be any of these runs in {runs_dir}: {several}. Give more of the name.")
    known = ", ".join(run_dir.name for run_dir in find_runs(runs_dir)[-5:]) or "there is none"
    raise WavslmError(f"there is no run {name}, here or in {runs_dir}. Runs there: {known}.")


def submitted_with(run_dir: Path) -> list[str] | None:
    """Return the command that started or continued the run last, if it is known."""
    try:
        command = parse_json(read_regular(run_dir / ENVIRONMENT_FILE), _Environment)["command"]
    except (OSError, ValueError):
        return None
    if not command or Path(command[0]).name != "wavslm-run":
        return None
    return ["wavslm-run", *command[1:]]


def _changed(run_dir: Path) -> float:
    times = [0.0]
    for name in (RECIPE_FILE, STAGES_FILE, PROGRESS_FILE):
        with suppress(OSError):
            times.append((run_dir / name).stat().st_mtime)
    return max(times)


def is_finished(
    run_dir: Path, *, stages: Sequence[str] | None = None, registry: Registry | None = None
) -> bool:
    """Tell whether `run_stages` would find nothing to do."""
    recipe = saved_recipe(run_dir, registry=registry)
    record = StageRecord(run_dir / STAGES_FILE)
    return all(
        record.finished(name)
        and recipe.registry.build(config).left_results(StageContext(recipe, run_dir, stage_name=name))
        for name, config in recipe.named_stages()
        if stages is None or name in stages
    )
