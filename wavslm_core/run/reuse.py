"""Takes over the first stages of a run from another that computed the same: one codec, many heads.

Two runs have their first stages in common when everything that those depend on is the same. Files are linked,
not copied: everything in a run folder is replaced by renaming, never written into, so that neither run can
change what the other has.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wavslm_core.errors import WavslmError
from wavslm_core.machine.files import replacing, replacing_folder
from wavslm_core.parts.configs import Role
from wavslm_core.parts.registry import Registry
from wavslm_core.parts.roles import CODEC_ROLES
from wavslm_core.recipe.model import ResolvedRecipe
from wavslm_core.recipe.places import place
from wavslm_core.run.folder import RECIPE_FILE, saved_recipe
from wavslm_core.run.lock import RunLock
from wavslm_core.run.metrics_file import METRICS_FILE, read_metrics
from wavslm_core.run.records import STAGES_FILE, StageEntry, StageRecord


@dataclass(frozen=True)
class StageIdentity:
    """A stage that leaves something for later ones, and what its results follow from."""

    name: str
    """Unique in its recipe."""
    leaves: tuple[str, ...]
    digest: str
    """Equal in two recipes exactly when the stage computes the same in both."""
    places: tuple[str, ...] = field(compare=False)
    """Where in the run's folder each of `leaves` is."""
    kept: bool = field(compare=False)
    """Nothing that was left by then can be replaced by a later stage: a finished run still has it."""


def stage_identities(recipe: ResolvedRecipe) -> tuple[StageIdentity, ...]:
    """Return the first stages of a resolved recipe whose results another run could take over.

    A stage follows from its options, from the stages before it that leave anything, the data, the seed, and
    the parts that any of them needs. What comes after a stage that does not state what it leaves depends on
    everything, so the list ends there.
    """
    identities: list[StageIdentity] = []
    chain: list[dict[str, Any]] = []
    needed: set[Role] = set()
    for number, (name, config) in enumerate(recipe.named_stages(), start=1):
        left = config.leaves()
        if left is None:
            break
        leaves = tuple(left)
        if not leaves:
            continue
        chain.append(config.model_dump(mode="json", exclude={"launch"}))
        needed |= {*config.needs, *config.trains}
        places = tuple(place(recipe, path, stage=name) for path in leaves)
        kept = all(stage.leaves() is not None for stage in recipe.stages[number:])
        identities.append(StageIdentity(name, leaves, _digest(recipe, chain, needed), places, kept))
    return tuple(identities)


def _digest(recipe: ResolvedRecipe, chain: list[dict[str, Any]], needed: set[Role]) -> str:
    parts = {role: part.model_dump(mode="json") for role, part in recipe.parts().items() if role in needed}
    codec = recipe.codec if needed & set(CODEC_ROLES) else None
    document = {
        "stages": chain,
        "parts": parts,
        "codec": None if codec is None else codec.model_dump(mode="json"),
        "data": None if recipe.data is None else recipe.data.to_dict(),
        "seed": recipe.seed,
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class Adoption:
    """What the runs of a folder have finished, by what it follows from."""

    def __init__(self, runs_dir: Path, *, registry: Registry) -> None:
        self.runs_dir = runs_dir
        self.registry = registry
        self.known: dict[Path, tuple[StageIdentity, ...]] = {}

    def adopt(self, recipe: ResolvedRecipe, run_dir: Path) -> tuple[str, tuple[str, ...]] | None:
        """Link the most stages that another run has into a run that has begun none.

        Returns the run that computed them and the stages; None when there is nothing to take.
        Raises: DataError.
        """
        if (run_dir / STAGES_FILE).exists():
            return None
        wanted = stage_identities(recipe)
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
        for number, (ours, theirs) in enumerate(zip(wanted, self.known[donor], strict=False), start=1):
            there = all((donor / path).exists() for path in theirs.places)
            if ours != theirs or not there or not record.finished(ours.name):
                break
            if theirs.kept:
                count = number
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
