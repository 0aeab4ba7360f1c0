"""What a run ran with: versions, platform, commit. Reads metadata only; imports none of what it names."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from wavslm_core.parts import plugins
from wavslm_core.run.git import git

PROCESSOR_UNITS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8", "bf16", "i8mm")
LIBRARIES = ("torch", "torchaudio", "numpy", "pydantic", "safetensors", "submitit")


def describe_environment() -> dict[str, Any]:
    """Return JSON values."""
    return {
        "python": platform.python_version(),
        "torch": library_version("torch"),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "processor": describe_processor(),
        "host": platform.node(),
        "command": sys.argv,
        "libraries": {name: library_version(name) for name in LIBRARIES},
        "plugins": {plugin.distribution: plugin.version for plugin in plugins.load().plugins},
        "git_commit": git_commit(Path(__file__).parent),
    }


def describe_processor() -> str:
    """Return the model, and which of the units that multiply in other kernels than most it has.

    Where /proc/cpuinfo does not say it: what Python knows.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    units = [unit for unit in PROCESSOR_UNITS if flags is not None and unit in flags[1].split()]
    name = " ".join(model[1].split()) if model is not None else platform.machine()
    return f"{name} ({', '.join(units) or 'no bf16 units'})"


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
