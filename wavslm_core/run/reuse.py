"""Takes over the first stages of a run from another that computed the same: one codec, many heads.

Files are linked, not copied: everything in a run folder is replaced by renaming, never written into, so
that neither run can change what the other has.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from wavslm_core.errors import WavslmError
from wavslm_core.machine.files import replacing, replacing_folder
from wavslm_core.parts.registry import Registry
from wavslm_core.recipe import Recipe
from wavslm_core.run.folder import RECIPE_FILE, saved_recipe
from wavslm_core.run.identity import StageIdentity, stage_identities
from wavslm_core.run.lock import RunLock
from wavslm_core.run.metrics_file import METRICS_FILE, read_metrics
from wavslm_core.run.stage_record import STAGES_FILE, StageEntry, StageRecord


class Adoption:
    """What the runs of a folder have finished, by what it follows from."""

    def __init__(self, runs_dir: Path, *, registry: Registry) -> None:
        self.runs_dir = runs_dir
        self.registry = registry
        self.known: dict[Path, tuple[StageIdentity, ...]] = {}

    def adopt(self, recipe: Recipe, run_dir: Path) -> tuple[str, tuple[str, ...]] | None:
        """Link the most stages that another run has into a run that has begun none.

        Returns the run that computed them and the stages; None when there is nothing to take.
        Raises: DataError.
        """
        if (run_dir / STAGES_FILE).exists():
            return None
        wanted = stage_identities(recipe.resolve())
        best: tuple[int, Path] | None = None
        for donor in self._donors(run_dir):
            count = self._in_common(wanted, donor)
            if count and (best is None or count > best[0]):
                best = count, donor
        if best is None:
            return None
        stages = wanted[: best[0]]
        with RunLock(run_dir):
            taken = _take(stages, self.known[best[1]], best[1], run_dir)
        return taken[stages[-1].name]["adopted_from"], tuple(taken)

    def _donors(self, run_dir: Path) -> Iterable[Path]:
        for record in sorted(self.runs_dir.glob(f"*/{STAGES_FILE}")):
            if record.parent != run_dir and (record.parent / RECIPE_FILE).exists():
                yield record.parent

    def _in_common(self, wanted: tuple[StageIdentity, ...], donor: Path) -> int:
        """Return how many first stages the donor has, finished and with everything that they left."""
        if donor not in self.known:
            try:
                self.known[donor] = stage_identities(saved_recipe(donor, registry=self.registry))
            except WavslmError:
                # A run of parts that are no longer installed, or of an older version.
                self.known[donor] = ()
        try:
            record = StageRecord(donor / STAGES_FILE)
        except WavslmError:
            return 0
        count = 0
        for place, (ours, theirs) in enumerate(zip(wanted, self.known[donor], strict=False), start=1):
            there = all((donor / path).exists() for path in theirs.places)
            if ours != theirs or not there or not record.finished(ours.name):
                break
            if theirs.kept:
                count = place
        return count


def _take(
    stages: tuple[StageIdentity, ...], theirs: tuple[StageIdentity, ...], donor: Path, run_dir: Path
) -> dict[str, StageEntry]:
    """Link what stages left; return their records."""
    names = [stage.name for stage in stages]
    for ours, same in zip(stages, theirs, strict=False):
        results = f"results/{ours.name}.json"
        for source, target in zip((*same.places, results), (*ours.places, results), strict=True):
            if (donor / source).exists():
                _link(donor / source, run_dir / target)
    lines = [line for line in read_metrics(donor / METRICS_FILE) if line.get("stage") in names]
    if lines:
        with replacing(run_dir / METRICS_FILE) as beside:
            beside.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    # Last, so that a run that was killed here takes everything over again.
    entries = StageRecord(donor / STAGES_FILE).entries
    record = StageRecord(run_dir / STAGES_FILE)
    record.adopt({name: entries[name] for name in names}, run=donor.name)
    return record.entries


def _link(source: Path, target: Path) -> None:
    """Link a file, or a folder's files; copy where the file system has no links."""
    if source.is_dir():
        with replacing_folder(target) as beside:
            shutil.copytree(source, beside, copy_function=_link_file, dirs_exist_ok=True)
    else:
        with replacing(target) as beside:
            beside.unlink()
            _link_file(str(source), str(beside))


def _link_file(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
