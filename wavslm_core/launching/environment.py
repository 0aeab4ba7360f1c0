"""What a run ran with: versions, platform, commit. Reads metadata only; imports none of what it names."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from wavslm_core import plugins
from wavslm_core.launching.git import git

LIBRARIES = ("torch", "torchaudio", "numpy", "pydantic", "safetensors", "submitit")


def describe_environment() -> dict[str, Any]:
    """Return JSON values."""
    return {
        "python": platform.python_version(),
        "torch": library_version("torch"),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "host": platform.node(),
        "command": sys.argv,
        "libraries": {name: library_version(name) for name in LIBRARIES},
        "plugins": {plugin.distribution: plugin.version for plugin in plugins.load().plugins},
        "git_commit": git_commit(Path(__file__).parent),
    }


def library_version(name: str) -> str | None:
    """Return a distribution's version, or None when it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def git_commit(folder: Path) -> str | None:
    """Return the commit of the checkout that holds a folder, with "+changes" when it is not clean."""
    commit = git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    changes = git(folder, "status", "--porcelain", "--untracked-files=no")
    return commit.decode().strip() + ("+changes" if changes else "")
