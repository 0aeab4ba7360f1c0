"""Runs that are killed at any moment, again and again: they end in the same bits."""

import hashlib
import os
import shutil
import signal
import sys
import time
from functools import cache
from pathlib import Path
from random import Random

from tests.fuzz.base import run_of
from tests.fuzz.commands import call
from tests.fuzz.files import base

MOST_KILLS = 40
LEFT = ("codec/*.safetensors", "speech_lm/*.safetensors", "tokens/*/*.bin", "tokens/*/ids.txt")


def attack(random: Random, folder: Path) -> tuple[str, str]:
    """Kill a run at random moments until it ends; return what is wrong with what it left, and the moments."""
    wanted, whole_s = _uninterrupted()
    place = folder / "work"
    _fresh(place)
    moments: list[str] = []
    while len(moments) < MOST_KILLS:
        # Later ones live longer, so that the run gets to its end.
        delay = random.uniform(0, whole_s * (1 + len(moments) / 4))
        code = _run(place, kill_after_s=delay)
        if code is not None:
            break
        moments.append(f"{delay:.2f}")
    said = f"killed after {', '.join(moments)} s"
    if code != 0:
        return f"exit code {code}: {(place / 'errors').read_text()[-600:]}", said
    found = _left(place)
    different = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    return (f"{', '.join(different)} differ" if different else ""), said


@cache
def _uninterrupted() -> tuple[dict[str, str], float]:
    """Return what a run leaves that nobody kills, and how long it takes."""
    place = base() / "uninterrupted"
    _fresh(place)
    began = time.monotonic()
    code = _run(place, kill_after_s=None)
    if code != 0:
        raise RuntimeError((place / "errors").read_text())
    return _left(place), time.monotonic() - began


def _fresh(place: Path) -> None:
    place.mkdir(parents=True)
    for name in ("speech", "short.yaml"):
        source = base() / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, place / name)


def _run(place: Path, *, kill_after_s: float | None) -> int | None:
    """Run the recipe in a child; return its exit code, None when it was killed."""
    child = os.fork()
    if child == 0:
        _child(place)
    deadline = None if kill_after_s is None else time.monotonic() + kill_after_s
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        if deadline is not None and time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            deadline = None
        time.sleep(0.005)


def _child(place: Path) -> None:
    """Run the recipe and leave; the parent has imported everything."""
    code = 70
    try:
        os.setsid()
        os.chdir(place)
        ending = call("wavslm-run", "short.yaml", patience_s=600)
        (place / "errors").write_text(ending.errors)
        code = ending.code & 255
    finally:
        sys.stderr.flush()
        os._exit(code)


def _left(place: Path) -> dict[str, str]:
    run = place / run_of(place, "short")
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in LEFT
        for path in sorted(run.glob(pattern))
    }
