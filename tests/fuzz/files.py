"""Files that are damaged in any way: every verb that reads them says so in a line, or goes on without."""

import atexit
import json
import os
import shutil
from functools import cache
from pathlib import Path
from random import Random
from tempfile import mkdtemp

from tests.fuzz.base import make_base, run_of
from tests.fuzz.commands import call
from tests.fuzz.damage import damage

MOST_S = 30.0
PATIENCE_S = 300.0
STAGES = ("train_codec", "tokenize", "train_lm", "evaluate", "generate", "report")
UNREAD = {".html", ".png", ".diff", ".lock"}
"""Suffixes of what nobody reads, or only libraries of others do."""


@cache
def base() -> Path:
    """Return the folder that every attack works on a copy of."""
    folder = Path(mkdtemp(prefix="wavslm-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.chdir(folder)
    make_base(folder)
    return folder


def attack(random: Random, folder: Path) -> tuple[str, str]:
    """Damage a file and call what reads it; return what is wrong with how it ended, and how it came."""
    place = folder / "work"
    shutil.copytree(base(), place, symlinks=True)
    os.chdir(place)
    files = sorted(path for path in place.rglob("*") if path.is_file() and _is_read(path))
    kinds = sorted({_kind(path, place) for path in files})
    kind = random.choice(kinds)
    path = random.choice([path for path in files if _kind(path, place) == kind])
    said = damage(path, random)
    command = _reader(path.relative_to(place), random)
    ending = call(*command, patience_s=PATIENCE_S)
    return ending.problem(most_s=MOST_S), f"{' '.join(command)} ({path.relative_to(place)} is {said})"


def _is_read(path: Path) -> bool:
    return path.suffix not in UNREAD and "tfevents" not in path.name


def _kind(path: Path, place: Path) -> str:
    """Return what a file is, so that each kind is damaged as often as any other."""
    name = "".join("0" if letter.isdigit() else letter for letter in path.relative_to(place).parts[-1])
    return f"{path.parent.name if 'runs' in path.parts else ''}/{name}"


def _reader(path: Path, random: Random) -> tuple[str, ...]:
    """Return a command that reads a file."""
    place = Path()
    run = str(run_of(place, "folder"))
    sweep = next(str(found.parent) for found in place.glob("runs/*/sweep.yaml*"))
    verbs = [
        ("wavslm", "jobs"),
        ("wavslm", "sweep", "status", sweep),
        ("wavslm", "sweep", "results", sweep),
        ("wavslm", "data", "stats", "folder.yaml"),
        ("wavslm", "data", "stats", "tars.yaml"),
        ("wavslm", "encode", run, "speech", "--out", "new"),
        ("wavslm", "decode", run, "tokens", "--out", "new"),
        ("wavslm", "score", run, "speech"),
        ("wavslm", "generate", run, "speech", "--seconds", "0.1", "--out", "new"),
        ("wavslm-run", "sweep.yaml"),
    ]
    if path.parts[0] == "runs" and len(path.parts) > 2:
        name = path.parts[1]
        mine = [("wavslm", "jobs", f"runs/{name}"), ("wavslm", "data", "rejected", f"runs/{name}")]
        recipe = name.partition("-")[0]
        if recipe in ("folder", "tars"):
            _forget(Path("runs", name), random)
            mine += [("wavslm-run", f"{recipe}.yaml")] * 6
        verbs += mine * 3
    elif path.parts[0] in ("speech", "speech.tar"):
        verbs = [verb for verb in verbs if "speech" in verb or "stats" in verb]
    elif path.parts[0] == "tokens":
        verbs = [verb for verb in verbs if "decode" in verb]
    return random.choice(verbs)


def _forget(run: Path, random: Random) -> None:
    """Let a run do its stages again from some stage on, so that what earlier ones left is read."""
    record = run / "stages.json"
    try:
        if not record.is_file() or record.stat().st_size > 10**6:
            return
        entries = json.loads(record.read_bytes())
        first = random.randrange(len(STAGES) + 1)
        for stage in STAGES[first:]:
            entries.pop(stage, None)
        record.write_text(json.dumps(entries))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        # It is what was damaged.
        return
