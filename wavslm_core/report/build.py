"""Puts the report together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wavslm_core.report.about import about
from wavslm_core.report.html import page
from wavslm_core.report.pictures import codes, curves, samples
from wavslm_core.report.run_files import RunFiles
from wavslm_core.report.scores import headline, score_tables, warnings

if TYPE_CHECKING:
    from wavslm_core.recipe import Recipe


def build_report(run_dir: Path, recipe: Recipe, *, samples_shown: int) -> str:
    """Return the HTML of a run's report. Sections for which the run holds nothing are left out."""
    files = RunFiles.read(run_dir)
    sections = [
        warnings(files),
        headline(files),
        samples(files, most=samples_shown),
        score_tables(files),
        curves(files),
        codes(files),
        about(files, recipe),
    ]
    return page(recipe.name, _subtitle(recipe), sections)


def _subtitle(recipe: Recipe) -> str:
    """Return the parts in the order in which sound passes through them."""
    parts = [f"{role} {config.registered_name()}" for role, config in recipe.part_configs().items()]
    return " · ".join([*parts, f"seed {recipe.seed}"])
