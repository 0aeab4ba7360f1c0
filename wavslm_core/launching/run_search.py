"""Finds runs by what a person calls them, and the command that started one."""

from __future__ import annotations

import json
from pathlib import Path

from wavslm_core.errors import WavslmError
from wavslm_core.launching.run_folder import ENVIRONMENT_FILE, RECIPE_FILE
from wavslm_core.launching.stage_record import STAGES_FILE
from wavslm_core.pulse import PROGRESS_FILE


def find_runs(runs_dir: Path) -> list[Path]:
    """Return the folders of all runs, the ones that changed last at the end."""
    found = [path.parent for path in runs_dir.glob(f"*/{RECIPE_FILE}")]
    return sorted(found, key=lambda run_dir: (_changed(run_dir), run_dir.name))


def find_run(name: str, runs_dir: Path) -> Path:
    """Return the folder that a path, the name of a run, or the only beginning of one, means.

    Raises: WavslmError.
    """
    for place in (Path(name), runs_dir / name):
        if (place / RECIPE_FILE).exists():
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
        command = json.loads((run_dir / ENVIRONMENT_FILE).read_text(encoding="utf-8"))["command"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not command or Path(str(command[0])).name != "wavslm-run":
        return None
    return ["wavslm-run", *map(str, command[1:])]


def _changed(run_dir: Path) -> float:
    times = [run_dir / name for name in (RECIPE_FILE, STAGES_FILE, PROGRESS_FILE)]
    return max((path.stat().st_mtime for path in times if path.exists()), default=0.0)
