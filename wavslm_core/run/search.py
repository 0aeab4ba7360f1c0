"""Finds runs by what a person calls them, and the command that started one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from typing_extensions import TypedDict

from wavslm_core.errors import WavslmError
from wavslm_core.machine.json_files import parse_json
from wavslm_core.machine.pulse import PROGRESS_FILE
from wavslm_core.machine.regular_files import read_regular
from wavslm_core.run.folder import ENVIRONMENT_FILE, RECIPE_FILE
from wavslm_core.run.stage_record import STAGES_FILE


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
