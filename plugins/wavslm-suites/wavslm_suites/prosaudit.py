"""ProsAudit (de Seyssel et al. 2023): `english/<part>` holds gold.csv with two rows an id, and the WAVs."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from wavslm_core.plugin import DataError, Finding, Pair
from wavslm_suites.config import ProsAuditConfig
from wavslm_suites.copies import CopiedSuite, SuiteCopy
from wavslm_suites.official import submission_lines
from wavslm_suites.zerospeech import GoldRow, read_gold

NEEDED = ("id", "filename", "correct")


class ProsAudit(CopiedSuite[ProsAuditConfig]):
    """See `ProsAuditConfig`."""

    title: ClassVar[str] = "ProsAudit"

    @property
    def folder(self) -> Path:
        return self.root / "english" / self.config.part

    def look(self) -> SuiteCopy:
        if not self.folder.is_dir():
            raise DataError(f"{self.root} holds no english/{self.config.part}; set `path` to what does")
        rows, copy = read_gold(self.folder, needed=NEEDED)
        sides: dict[str, dict[bool, list[GoldRow]]] = defaultdict(lambda: {True: [], False: []})
        for row in rows:
            sides[row.cells["id"]][row.correct].append(row)
        for item, both in sides.items():
            counts = len(both[True]), len(both[False])
            if counts != (1, 1):
                what = (
                    f"id {item} of {self.folder}/gold.csv has {counts[0]} correct, {counts[1]} incorrect rows"
                )
                copy.findings.append(Finding("duplicate" if max(counts) > 1 else "unpaired", what))
                continue
            (right,), (wrong,) = both[True], both[False]
            if right.name in copy.sources and wrong.name in copy.sources:
                copy.pairs.append(Pair(item, right.name, wrong.name, item=item))
        return copy

    def submission(self, scores: Mapping[str, float]) -> Mapping[str, str]:
        return {f"english_{self.config.part}.txt": submission_lines(scores)}
