"""`metrics.jsonl` of a run: one line for each stage, step and split that was logged."""

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from wavslm_core.errors import DataError
from wavslm_core.machine.files import replacing
from wavslm_core.machine.json_files import parse_object
from wavslm_core.machine.regular_files import read_regular

METRICS_FILE = "metrics.jsonl"
MOST_BYTES = 1 << 30
"""A line is about 400 bytes."""


def read_metrics(path: Path, *, split: str | None = None) -> list[dict[str, Any]]:
    """Return the lines of a metrics file, or one split of it, without what is damaged or cut short.

    Each has its `stage`, `step` and `split`. Raises: DataError when the file cannot be read.
    """
    try:
        content = read_regular(path, most_bytes=MOST_BYTES)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}. Mend or delete it: only curves are lost"
        ) from error
    lines = []
    # Most lines are of training, and parsing is what takes the time.
    for text in content.splitlines() if split is None else _with_word(content, f'"{split}"'.encode()):
        with suppress(ValueError):
            line = parse_object(text)
            if _is_whole(line) and split in (None, line["split"]):
                lines.append(line)
    return lines


def _with_word(content: bytes, word: bytes) -> Iterator[bytes]:
    """Yield the lines that hold a word."""
    found = content.find(word)
    while found >= 0:
        begin, end = content.rfind(b"\n", 0, found) + 1, content.find(b"\n", found)
        end = len(content) if end < 0 else end
        yield content[begin:end]
        found = content.find(word, end)


def _is_whole(line: dict[str, Any]) -> bool:
    step = line.get("step")
    named = isinstance(line.get("stage"), str) and isinstance(line.get("split"), str)
    return named and isinstance(step, int) and 0 <= step < 1 << 53


def number_of(line: dict[str, Any], name: str) -> float:
    """Return a number of a line; NaN where there is none."""
    value = line.get(name)
    return float(value) if value is not None and is_number(value) else math.nan


def is_number(value: Any) -> bool:
    """Tell whether a value of a line can be computed with."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 1 << 53)


def cut_metrics(path: Path, *, stage: str, step: int, evaluated: bool) -> list[dict[str, Any]]:
    """Drop a stage's lines from after `step`, and lines that are not whole; all or nothing.

    Of `step` itself, lines of other splits than "train" go too unless it is `evaluated`: what was written
    there comes again. Returns the stage's lines of `step` that are left. Raises: DataError.
    """
    if not path.exists():
        return []

    def stays(line: dict[str, Any]) -> bool:
        if line["stage"] != stage or line["step"] < step:
            return True
        return bool(line["step"] == step and (evaluated or line["split"] == "train"))

    kept = [line for line in read_metrics(path) if stays(line)]
    with replacing(path) as beside:
        beside.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    return [line for line in kept if line["stage"] == stage and line["step"] == step]
