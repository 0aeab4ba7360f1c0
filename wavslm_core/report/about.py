"""What produced the numbers: recipe, parameters, environment, time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wavslm_core.errors import WavslmError
from wavslm_core.machine.regular_files import read_log
from wavslm_core.report.html import code, details, group, number, section, table
from wavslm_core.report.run_files import RunFiles

if TYPE_CHECKING:
    from wavslm_core.recipe import Recipe


def about(files: RunFiles, recipe: Recipe) -> str:
    """Return the closing section."""
    import yaml

    recipe_file = files.run_dir / "recipe.yaml"
    text = (
        read_log(recipe_file)
        if recipe_file.exists()
        else yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True)
    )
    # A report is passed on: the machine's name is nobody's business.
    environment = [[key, value] for key, value in _flat(files.environment) if key != "host"]
    return section(
        "How it was made",
        _times(files),
        _precision(files),
        _parameters(recipe),
        details("Recipe, resolved", code(text)),
        details("Environment", group("facts", [table(["", ""], environment)])),
    )


def _times(files: RunFiles) -> str:
    """Return the time that each stage took, from the record of the run."""
    rows = []
    total_s = 0.0
    for name, seconds in stage_seconds(files.stages).items():
        total_s += seconds
        rows.append([name, spell_seconds(seconds)])
    if len(rows) > 1:
        rows.append(["together", spell_seconds(total_s)])
    return table(["stage", "time"], rows, caption="Time by stage, without this report")


def _precision(files: RunFiles) -> str:
    """Return in which arithmetic each stage trained and validated, and how far bf16 was from fp32."""
    rows, proofs = [], ""
    for stage, results in files.trainings.items():
        found = results["precision"]
        rows.append([stage, *(str(found.get(key, "")) for key in ("trained", "validated", "why", "on"))])
        measured = [
            [row["what"], row["of"], *(_percent(row[key]) for key in ("error", "rounding", "allowed"))]
            for row in found.get("proof", [])
        ]
        header = ["", "", "off by", "rounding alone", "allowed"]
        proofs += details(f"bf16 against fp32 in {stage}", table(header, measured)) if measured else ""
    caption = "Arithmetic by stage; all that is shown, scored and left is computed in fp32"
    return table(["stage", "trained", "validated", "", "on"], rows, caption=caption) + proofs if rows else ""


def _percent(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.2%}"


def stage_seconds(stages: Mapping[str, Any]) -> dict[str, float]:
    """Return stage → seconds from `stages.json`."""
    found: dict[str, float] = {}
    entries = stages.get("stages", stages)
    pairs = (
        entries.items()
        if isinstance(entries, Mapping)
        else [(e.get("run", e.get("name")), e) for e in entries]
    )
    for name, entry in pairs:
        if isinstance(entry, Mapping) and isinstance(entry.get("seconds"), int | float):
            found[str(name)] = found.get(str(name), 0.0) + float(entry["seconds"])
    return found


def spell_seconds(seconds: float) -> str:
    """Return "1 h 02 min", "3 min 05 s" or "4.2 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _parameters(recipe: Recipe) -> str:
    rows: list[list[str]] = []
    total = 0
    for role, config in recipe.part_configs().items():
        count = parameter_count(config)
        total += count or 0
        rows.append([role, config.registered_name(), number(count)])
    if len(rows) > 1:
        rows.append(["together", "", number(total)])
    return table(["part", "", "parameters"], rows, caption="Parameters by part")


def parameter_count(config: Any) -> int | None:
    """Return how many numbers a part learns, None when it cannot be built."""
    import torch
    from torch import nn

    from wavslm_core.parts.plugins import load_registry

    try:
        with torch.device("meta"):
            part = load_registry().build(config)
    except (WavslmError, NotImplementedError, RuntimeError):
        return None
    return sum(p.numel() for p in part.parameters()) if isinstance(part, nn.Module) else 0


def _flat(document: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
    """Return (dotted key, text) pairs of nested JSON."""
    pairs: list[tuple[str, str]] = []
    for key, value in document.items():
        below = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping):
            pairs += _flat(value, below)
        else:
            joined = ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
            pairs.append((below, joined))
    return pairs
