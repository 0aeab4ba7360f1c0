"""`stages.json` of a run: stage → status, when it began first, and the seconds that all attempts took."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Required

from pydantic import FiniteFloat
from typing_extensions import TypedDict

from wavslm_core.errors import WavslmError
from wavslm_core.machine.files import write_json
from wavslm_core.machine.json_files import read_json

STAGES_FILE = "stages.json"


class StageEntry(TypedDict, total=False):
    """What is known of a stage."""

    status: Required[str]
    """`running`, `finished`, `interrupted`, `pruned` or `failed`."""
    seconds: Required[FiniteFloat]
    started: str
    """ISO time, as the next one."""
    ended: str
    adopted_from: str
    """The run that it was taken over from."""


class StageRecord:
    """The record at a path, which need not exist. Raises: WavslmError when it is damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            remedy = "Delete it: stages then run again and keep what they find done."
            self.entries = read_json(path, dict[str, StageEntry], remedy=remedy, error=WavslmError)
        except FileNotFoundError:
            self.entries = {}

    def finished(self, name: str) -> bool:
        return name in self.entries and self.entries[name]["status"] == "finished"

    def begin(self, name: str) -> None:
        fresh: StageEntry = {"status": "running", "started": _now(), "seconds": 0.0}
        self.entries.setdefault(name, fresh)["status"] = "running"
        write_json(self.path, self.entries)

    def end(self, name: str, status: str, seconds: float) -> None:
        entry = self.entries[name]
        entry["status"], entry["ended"] = status, _now()
        entry["seconds"] = round(entry["seconds"] + seconds, 3)
        write_json(self.path, self.entries)

    def adopt(self, entries: Mapping[str, StageEntry], *, run: str) -> None:
        """Record stages that another run finished."""
        for name, entry in entries.items():
            self.entries[name] = {**entry, "adopted_from": entry.get("adopted_from", run)}
        write_json(self.path, self.entries)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
