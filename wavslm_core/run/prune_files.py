"""Two notes in the folder of a trial: that it may be stopped for being behind, and that it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import FiniteFloat
from typing_extensions import TypedDict

from wavslm_core.machine.json_files import read_json

PRUNE_FILE = "prune.json"
"""Which trial of which sweep it is, as long as it is compared with the others."""
JUDGE = "wavslm_core.sweep.pruning:Pruning"
"""What compares it, built with the run's folder."""
PRUNED_FILE = "pruned.json"
"""After which validation it was stopped: `stage`, `step` and the scalars, `valid`."""


class _Pruned(TypedDict):
    stage: str
    step: int
    valid: dict[str, FiniteFloat | None]


def read_pruned(run_dir: Path) -> dict[str, Any] | None:
    """Return where a trial was stopped for being behind, if it was. Raises: DataError for a damaged note."""
    try:
        return {**read_json(run_dir / PRUNED_FILE, _Pruned, remedy="Delete it: the trial then goes on.")}
    except FileNotFoundError:
        return None


def spare(run_dir: Path) -> None:
    """Compare a run with no other any more, and take back that it was stopped for being behind."""
    for name in (PRUNE_FILE, PRUNED_FILE):
        (run_dir / name).unlink(missing_ok=True)
