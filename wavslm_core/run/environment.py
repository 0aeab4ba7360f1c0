"""What a run ran with: versions, platform and commit, read from metadata alone; and its code.

`code.json` says which code it is, `code.diff` holds what was not committed, and `code/` is a copy when the
recipe asks for one.
"""

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from wavslm_core.machine.files import replacing, replacing_folder, write_json
from wavslm_core.machine.json_files import parse_object
from wavslm_core.machine.regular_files import read_regular
from wavslm_core.parts import plugins

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


CODE_FILE, DIFF_FILE, CODE_FOLDER = "code.json", "code.diff", "code"
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")


def package_folders() -> dict[str, Path]:
    """Return name → folder of the top-level packages of the framework and of every plugin."""
    names = {"wavslm_core", *(plugin.value.partition(":")[0] for plugin in plugins.load().plugins)}
    folders: dict[str, Path] = {}
    for name in sorted({name.partition(".")[0] for name in names}):
        with suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(name)
            if spec is not None and spec.submodule_search_locations:
                folders[name] = Path(next(iter(spec.submodule_search_locations)))
    return folders


def code_digest() -> str:
    """Return hex digits that change whenever the source of the framework or of a plugin does."""
    digest = hashlib.sha256()
    for name, folder in package_folders().items():
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{name}/{path.relative_to(folder)}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def save_code(run_dir: Path, *, copy: bool = False) -> None:
    """Record in the run's folder what code is submitted. Raises: DataError when it cannot be written."""
    folders = package_folders()
    document: dict[str, Any] = {
        "version": library_version("wavslm-core"),
        "git_commit": git_commit(folders["wavslm_core"]),
        "digest": code_digest(),
        "packages": {name: str(folder) for name, folder in folders.items()},
    }
    write_json(run_dir / CODE_FILE, document)
    difference = _difference(folders.values())
    if difference:
        with replacing(run_dir / DIFF_FILE) as beside:
            beside.write_bytes(difference)
    else:
        (run_dir / DIFF_FILE).unlink(missing_ok=True)
    if copy:
        with replacing_folder(run_dir / CODE_FOLDER) as beside:
            for name, folder in folders.items():
                shutil.copytree(folder, beside / name, ignore=_LEFT_OUT)


def changed_since(run_dir: Path) -> bool:
    """Tell whether the code here is another than the one that was submitted."""
    try:
        submitted = parse_object(read_regular(run_dir / CODE_FILE))["digest"]
    except (OSError, ValueError, KeyError):
        return False
    return bool(submitted != code_digest())


def _difference(folders: Iterable[Path]) -> bytes:
    """Return what was not committed in the checkouts that hold these folders, as `git apply` takes it.

    Each checkout begins with a line that names it and its commit. Files that git does not follow are new
    ones, if they are in one of the folders and not ignored.
    """
    checkouts: dict[str, list[Path]] = {}
    for folder in folders:
        top_level = git(folder, "rev-parse", "--show-toplevel")
        if top_level:
            checkouts.setdefault(top_level.decode().strip(), []).append(folder)
    parts = []
    for checkout, inside in checkouts.items():
        top = Path(checkout)
        listed = git(top, "ls-files", "--others", "--exclude-standard", "-z", "--", *map(str, inside)) or b""
        changes = (git(top, "diff", "--binary", "HEAD") or b"") + b"".join(
            git(top, "diff", "--binary", "--no-index", "--", os.devnull, os.fsdecode(name)) or b""
            for name in listed.split(b"\0")
            if name
        )
        if changes:
            commit = (git(top, "rev-parse", "HEAD") or b"").decode().strip()
            parts.append(f"# {checkout} {commit}\n".encode() + changes)
    return b"".join(parts)
