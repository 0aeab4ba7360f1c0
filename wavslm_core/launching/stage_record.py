"""`stages.json` of a run: stage → status, when it began first, and the seconds that all attempts took."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wavslm_core.data.atomic import write_json
from wavslm_core.errors import WavslmError

STAGES_FILE = "stages.json"


class StageRecord:
    """The record at a path, which need not exist. Raises: WavslmError when it is damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.entries: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self.entries = {}
        except ValueError as error:
            raise WavslmError(
                f"{path} is damaged ({error}). Delete it: stages then run again and keep what they find done."
            ) from None

    def finished(self, name: str) -> bool:
        return bool(self.entries.get(name, {}).get("status") == "finished")

    def begin(self, name: str) -> None:
        entry = self.entries.setdefault(name, {"started": _now(), "seconds": 0.0})
        entry["status"] = "running"
        write_json(self.path, self.entries)

    def end(self, name: str, status: str, seconds: float) -> None:
        entry = self.entries[name]
        entry.update(status=status, ended=_now(), seconds=round(entry["seconds"] + seconds, 3))
        write_json(self.path, self.entries)

    def adopt(self, entries: dict[str, dict[str, Any]], *, run: str) -> None:
        """Record stages that another run finished."""
        for name, entry in entries.items():
            self.entries[name] = {**entry, "adopted_from": entry.get("adopted_from", run)}
        write_json(self.path, self.entries)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
