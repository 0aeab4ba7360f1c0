"""Suite `pairs`: a table of one's own that names positive and negative files."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from wavslm_core.plugin import DataError, Finding, Group, Pair, parse_object, read_regular
from wavslm_suites.config import PairsConfig
from wavslm_suites.copies import MOST_BYTES, CopiedSuite, SuiteCopy, read_csv


class PairTable(CopiedSuite[PairsConfig]):
    """See `PairsConfig`."""

    title: ClassVar[str] = "Pairs"

    def __init__(self, config: PairsConfig, *, cache_dir: Path = Path(".cache")) -> None:
        super().__init__(config, cache_dir=cache_dir)
        self.groups = tuple(Group(name, name) for name in config.groups)  # type: ignore[misc]

    def look(self) -> SuiteCopy:
        copy, seen = SuiteCopy(), Counter[str]()
        for line, cells in self._rows():
            pair = self._pair(line, cells)
            seen[pair.id] += 1
            if seen[pair.id] > 1:
                raise DataError(
                    f"{self.root}, line {line}: id '{pair.id}' is there twice; an id is of one pair"
                )
            files = {name: self.root.parent / name for name in (pair.positive, pair.negative)}
            missing = [str(file) for file in files.values() if not file.is_file()]
            if missing:
                copy.findings.append(Finding("missing", f"{', '.join(missing)} ({self.root.name}:{line})"))
            else:
                copy.sources.update(files)
                copy.pairs.append(pair)
        return copy

    def _rows(self) -> list[tuple[int, dict[str, Any]]]:
        if self.root.suffix.lower() == ".csv":
            rows = read_csv(self.root, needed=("positive", "negative"))
            return [(line, dict(cells)) for line, cells in rows]
        if self.root.suffix.lower() != ".jsonl":
            raise DataError(f"{self.root} is neither a .jsonl nor a .csv; name a table of pairs")
        rows = []
        try:
            lines = read_regular(self.root, most_bytes=MOST_BYTES).splitlines()
        except OSError as error:
            raise DataError(f"{self.root} cannot be read: {error.strerror}") from error
        for number, line in enumerate(lines, start=1):
            try:
                rows.append((number, parse_object(line)))
            except ValueError as error:
                raise DataError(f"{self.root}, line {number}: {error}; write a JSON object a line") from None
        return rows

    def _pair(self, line: int, cells: Mapping[str, Any]) -> Pair:
        def text(key: str, default: str | None = None) -> str:
            value = cells.get(key, default)
            if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
                raise DataError(f"{self.root}, line {line}: `{key}` is {value!r}, a text is needed")
            return str(value)

        name = text("id", f"{line:06d}")
        return Pair(
            name,
            text("positive"),
            text("negative"),
            item=text("item", name),
            groups={group: text(group) for group in self.config.groups if cells.get(group) not in (None, "")},
            split_s=self._split(line, cells),
        )

    def _split(self, line: int, cells: Mapping[str, Any]) -> tuple[float, float] | None:
        both = cells.get("split")
        found = [cells.get(f"{side}_split", both) for side in ("positive", "negative")]
        if all(value in (None, "") for value in found):
            return None
        try:
            seconds = [float(value) for value in found]
        except (TypeError, ValueError):
            seconds = [math.nan]
        if not all(value >= 0 and math.isfinite(value) for value in seconds):
            raise DataError(f"{self.root}, line {line}: a pair splits at {found}; seconds of both are needed")
        return seconds[0], seconds[1]
