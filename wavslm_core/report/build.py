"""Puts the report together: the values that the template `run.html` lays out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavslm_core.machine.regular_files import read_log
from wavslm_core.recipe.plan import parameter_count
from wavslm_core.report.html import number, render
from wavslm_core.report.pictures import best_fair_mark, codebooks, curves, samples, suites, texts_heard
from wavslm_core.report.run_files import RunFiles

if TYPE_CHECKING:
    from wavslm_core.recipe.model import ResolvedRecipe


def build_report(run_dir: Path, recipe: ResolvedRecipe, *, samples_shown: int) -> str:
    """Return the HTML of a run's report. Sections for which the run holds nothing are left out."""
    files = RunFiles.read(run_dir)
    parts = recipe.part_configs
    main_curves, other_curves = curves(files)
    return render(
        "report/run.html",
        title=recipe.name,
        # The parts in the order in which sound passes through them.
        subtitle=" · ".join(
            [*(f"{role} {config.registered_name()}" for role, config in parts.items()), f"seed {recipe.seed}"]
        ),
        evaluations=files.evaluations,
        tables=files.tables,
        verdict=verdict,
        by_speaker=by_speaker,
        suites=files.suites,
        suite_drawings=suites(files),
        samples=samples(files, most=samples_shown),
        generations=files.generations,
        texts_heard=texts_heard,
        curves=main_curves,
        other_curves=other_curves,
        codebooks=codebooks(files),
        stage_seconds=stage_seconds(files.stages),
        precisions={stage: results["precision"] for stage, results in files.trainings.items()},
        parameters=[
            (role, part.registered_name(), _parameters(recipe, part)) for role, part in parts.items()
        ],
        recipe_text=_recipe_text(run_dir / "recipe.yaml", recipe),
        # A report is passed on: the machine's name is nobody's business.
        environment=[(key, text) for key, text in _flat(files.environment) if key != "host"],
    )


def verdict(language: dict[str, Any]) -> str:
    """Return how a language model stands to the strongest n-gram that it can be compared with."""
    mark = best_fair_mark(language)
    if mark is None:
        return f"{number(language['bits_per_second'], 0)} bits per second"
    gain = mark["bits_per_token"] - language["bits_per_token"]
    return f"{abs(gain):.2f} {'below' if gain > 0 else 'above'} {mark['name']}"


def by_speaker(scores: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Return (speaker, title of the score, its mean and count), in order."""
    found = [
        (speaker, score["title"], of_speaker)
        for score in scores.values()
        for speaker, of_speaker in score.get("by_speaker", {}).items()
    ]
    return sorted(found, key=lambda row: row[:2])


def stage_seconds(stages: Mapping[str, Any]) -> dict[str, float]:
    """Return stage → seconds from `stages.json`."""
    return {
        name: float(entry["seconds"])
        for name, entry in stages.items()
        if isinstance(entry, Mapping) and isinstance(entry.get("seconds"), int | float)
    }


def _parameters(recipe: ResolvedRecipe, config: Any) -> int | None:
    """Return how many numbers a part learns, None when it cannot be built."""
    try:
        return parameter_count(recipe, config)
    except Exception:
        # Whatever a plugin raises, the rest of the report is worth reading.
        return None


def _recipe_text(path: Path, recipe: ResolvedRecipe) -> str:
    import yaml

    if path.exists():
        return read_log(path)
    return yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True)


def _flat(document: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, text) pairs of nested JSON."""
    for key, value in document.items():
        below = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping):
            yield from _flat(value, below)
        else:
            yield below, ", ".join(map(str, value)) if isinstance(value, list) else str(value)
