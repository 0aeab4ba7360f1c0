"""Whether a run, or some of its stages, has nothing left to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wavslm_core.parts.registry import Registry
from wavslm_core.run.context import StageContext
from wavslm_core.run.folder import saved_recipe
from wavslm_core.run.stage_record import STAGES_FILE, StageRecord


def is_finished(
    run_dir: Path, *, stages: Sequence[str] | None = None, registry: Registry | None = None
) -> bool:
    """Tell whether `run_stages` would find nothing to do."""
    recipe = saved_recipe(run_dir, registry=registry)
    record = StageRecord(run_dir / STAGES_FILE)
    return all(
        record.finished(name)
        and recipe.registry.build(config).left_results(StageContext(recipe, run_dir, stage_name=name))
        for name, config in recipe.named_stages()
        if stages is None or name in stages
    )
