"""`metrics.jsonl` of a run: one line for each stage, step and split that was logged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wavslm_core.data.atomic import replacing

METRICS_FILE = "metrics.jsonl"


def read_metrics(path: Path, *, split: str | None = None) -> list[dict[str, Any]]:
    """Return the lines of a metrics file, or of one split; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        # Most lines are of training, and parsing is what takes the time.
        if split is not None and f'"{split}"' not in text:
            continue
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if split is None or line.get("split") == split:
            lines.append(line)
    return lines


def cut_metrics(path: Path, *, stage: str, step: int, evaluated: bool) -> list[dict[str, Any]]:
    """Drop a stage's lines from after `step`, and lines that are not whole; all or nothing.

    Of `step` itself, lines of other splits than "train" go too unless it is `evaluated`: what was written
    there comes again. Returns the stage's lines of `step` that are left. Raises: DataError.
    """
    if not path.exists():
        return []

    def stays(line: dict[str, Any]) -> bool:
        if line.get("stage") != stage or line["step"] < step:
            return True
        return bool(line["step"] == step and (evaluated or line["split"] == "train"))

    kept = [line for line in read_metrics(path) if stays(line)]
    with replacing(path) as beside:
        beside.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    return [line for line in kept if line.get("stage") == stage and line["step"] == step]
