"""Runs the trials of a sweep one after another. Each is an ordinary run with a folder of its own beside the
others, so the same command again skips what is finished, and a trial added later costs only itself.

A folder for the sweep holds the comparison: `results.json`, `table.md`, `report.html` and pictures.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wavslm_core.data.atomic import replacing, write_json
from wavslm_core.errors import WavslmError, summary
from wavslm_core.evaluation.comparison import Comparison, Result, compare
from wavslm_core.launching.adoption import Adoption
from wavslm_core.launching.base import Say, launcher_for
from wavslm_core.launching.environment import describe_environment
from wavslm_core.launching.lock import RunLock
from wavslm_core.launching.run_folder import ENVIRONMENT_FILE, prepare_run_folder, run_folder
from wavslm_core.launching.runner import is_finished
from wavslm_core.launching.stage_record import STAGES_FILE, StageRecord
from wavslm_core.recipe import Recipe
from wavslm_core.recipe.sweep import Trial, sweep_folder_name
from wavslm_core.recipe.yaml_files import dump_yaml

ERROR_FILE = "error.txt"
"""In the folder of a trial that failed: the traceback."""


@dataclass(frozen=True)
class SweepOutcome:
    """How a sweep ended."""

    folder: Path
    comparison: Comparison
    errors: tuple[Exception, ...]
    """Of the trials that failed."""
    interrupted: bool


def sweep_folder(recipe: Recipe, trials: Sequence[Trial], runs_dir: Path) -> Path:
    """Return where a sweep's comparison lives."""
    return runs_dir / sweep_folder_name(recipe, trials)


def run_sweep(recipe: Recipe, trials: Sequence[Trial], runs_dir: Path, say: Say) -> SweepOutcome:
    """Run every unfinished trial; one that fails does not stop the others. Then compare them all.

    Raises: WavslmError when the sweep's own folder is in use or cannot be written.
    """
    folder = sweep_folder(recipe, trials, runs_dir)
    write_json(folder / ENVIRONMENT_FILE, describe_environment())
    with RunLock(folder):
        with replacing(folder / "sweep.yaml") as beside:
            beside.write_text(dump_yaml(recipe.unvalidated()), encoding="utf-8")
        adoption = Adoption(runs_dir, registry=recipe.registry)
        results: list[Result] = []
        errors: list[Exception] = []
        interrupted = False
        for number, trial in enumerate(trials, start=1):
            if interrupted:
                results.append(_result(trial, run_folder(trial.recipe, runs_dir), "waiting"))
                continue
            say(f"trial {number} of {len(trials)}: {trial.label}")
            try:
                status = _run_trial(trial, runs_dir, adoption, say)
                error = None
            except Exception as problem:
                status, error = "failed", problem
                errors.append(problem)
                say(f"trial {number} failed: {first_line(problem)}")
            results.append(_result(trial, run_folder(trial.recipe, runs_dir), status, error))
            _note_error(results[-1].folder, error)
            interrupted = status == "interrupted"
        comparison = compare(results, recipe.sweep.compare if recipe.sweep is not None else ())
        _write(folder, recipe, comparison)
    return SweepOutcome(folder, comparison, tuple(errors), interrupted)


def trial_state(trial: Trial, runs_dir: Path) -> str:
    """Return what a trial's folder holds by now, in words."""
    folder = run_folder(trial.recipe, runs_dir)
    if not (folder / STAGES_FILE).exists():
        return "new"
    record = StageRecord(folder / STAGES_FILE)
    names = [name for name, _ in trial.recipe.named_stages()]
    done = sum(record.finished(name) for name in names)
    return "finished" if done == len(names) else f"{done} of {len(names)} stages"


def first_line(error: Exception) -> str:
    """Return the first line of what went wrong: the message of what a user can mend, else its type too."""
    if isinstance(error, WavslmError) or hasattr(error, "details"):
        return next(iter(str(error).splitlines()), type(error).__name__)
    return summary(error)


def _run_trial(trial: Trial, runs_dir: Path, adoption: Adoption, say: Say) -> str:
    folder = prepare_run_folder(trial.recipe, runs_dir)
    if is_finished(folder, registry=trial.recipe.registry):
        say(f"  finished before: {folder}")
        return "finished"
    say(f"  run folder: {folder}")
    adopted = adoption.adopt(trial.recipe, folder)
    if adopted is not None:
        say(f"  {', '.join(adopted[1])}: taken over from {adopted[0]}")
    return launcher_for(trial.recipe.launch).launch(folder, lambda line: say(f"  {line}")).status


def _result(trial: Trial, folder: Path, status: str, error: Exception | None = None) -> Result:
    adopted: dict[str, list[str]] = {}
    if (folder / STAGES_FILE).exists() and status == "finished":
        for name, entry in StageRecord(folder / STAGES_FILE).entries.items():
            if "adopted_from" in entry:
                adopted.setdefault(entry["adopted_from"], []).append(name)
    return Result(
        variant=trial.variant,
        settings=trial.settings,
        seed=trial.seed,
        folder=folder,
        status=status,
        error=None if error is None else first_line(error),
        adopted="; ".join(f"{', '.join(names)} from {run}" for run, names in adopted.items()) or None,
    )


def _note_error(folder: Path, error: Exception | None) -> None:
    """Leave the traceback in a failed trial's folder, and none in any other."""
    if error is None or not folder.is_dir():
        (folder / ERROR_FILE).unlink(missing_ok=True)
        return
    # A job that ran elsewhere brings its own traceback along.
    details = getattr(error, "details", "") or "".join(traceback.format_exception(error))
    (folder / ERROR_FILE).write_text(details, encoding="utf-8")


def _write(folder: Path, recipe: Recipe, comparison: Comparison) -> None:
    from wavslm_core.evaluation.report.comparison import write_comparison

    finished = sum(result.status == "finished" for result in comparison.results)
    write_comparison(
        folder,
        comparison,
        title=recipe.name,
        subtitle=f"{finished} of {len(comparison.results)} runs",
        recipe=dump_yaml(recipe.unvalidated()),
    )
