"""Asks git about a checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

PATIENCE_S = 60.0


def git(folder: Path, *arguments: str) -> bytes | None:
    """Return what git prints in a folder; None when it fails, such as outside of a checkout."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S)
    except (OSError, subprocess.SubprocessError):
        return None
    # `diff --no-index` says with 1 that there is a difference.
    return done.stdout if done.returncode == 0 or "--no-index" in arguments else None
