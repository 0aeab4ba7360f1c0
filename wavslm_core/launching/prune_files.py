"""Two notes in the folder of a trial: that it may be stopped for being behind, and that it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PRUNE_FILE = "prune.json"
"""Which trial of which sweep it is, as long as it is compared with the others."""
PRUNED_FILE = "pruned.json"
"""After which validation it was stopped: `stage`, `step` and the scalars, `valid`."""


def read_pruned(run_dir: Path) -> dict[str, Any] | None:
    """Return where a trial was stopped for being behind, if it was."""
    try:
        return dict(json.loads((run_dir / PRUNED_FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def spare(run_dir: Path) -> None:
    """Compare a run with no other any more, and take back that it was stopped for being behind."""
    for name in (PRUNE_FILE, PRUNED_FILE):
        (run_dir / name).unlink(missing_ok=True)
