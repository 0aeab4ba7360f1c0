"""Timings that are taken once on a kind of machine and kept in the user's cache: what is fastest here.

What is kept says what it was measured on; anything unreadable is measured anew, and a cache that cannot be
written is done without.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat

from wavslm_core.errors import WavslmError
from wavslm_core.machine.files import write_json
from wavslm_core.machine.json_files import json_digest, read_json

FOLDER_VARIABLE = "WAVSLM_CACHE"
"""Names another folder than the system's for caches."""


@dataclass(frozen=True)
class Timings:
    """What a file holds."""

    measured_on: dict[str, Any]
    seconds: dict[str, FiniteFloat]


def cache_folder() -> Path:
    """Return the folder that this user's programs keep things in which can be made again."""
    given = os.environ.get(FOLDER_VARIABLE)
    if given:
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "wavslm" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "wavslm"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wavslm"


def processor() -> str:
    """Return what this machine's processor calls itself, as far as it can be found out."""
    with suppress(OSError, UnicodeDecodeError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def remembered(key: Mapping[str, Any], measure: Callable[[], Mapping[str, float]]) -> dict[str, float]:
    """Return seconds by name: what was measured here for the same `key`, a JSON object, or what is now."""
    document = {"processor": processor(), **key}
    path = cache_folder() / "timings" / f"{json_digest(document)}.json"
    with suppress(OSError, WavslmError):
        kept = read_json(path, Timings, remedy="")
        if kept.measured_on == document:
            return dict(kept.seconds)
    seconds = dict(measure())
    with suppress(OSError, WavslmError):
        write_json(path, {"measured_on": document, "seconds": seconds})
    return seconds


def in_turns(calls: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, float]:
    """Return the median seconds of each call; all take turns, so that other load falls on all of them."""
    durations: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            durations[name].append(time.perf_counter() - start)
    return {name: sorted(taken)[len(taken) // 2] for name, taken in durations.items()}
