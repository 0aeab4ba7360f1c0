"""What a run folder holds, as far as it holds it: every part of a report may be missing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wavslm_core.machine.json_files import read_object
from wavslm_core.run.folder import SAMPLE_FILE, samples_folder
from wavslm_core.run.metrics_file import METRICS_FILE, is_number, read_metrics

Sample = tuple[Path, dict[str, Any]]
"""The folder of a sample and its `sample.json`."""


@dataclass(frozen=True)
class RunFiles:
    """The JSON documents of a run; empty where there is none."""

    run_dir: Path
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Stage → results of each `evaluate`, in the recipe's order."""
    suites: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Stage → results of each `score_suites`, in the recipe's order."""
    environment: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    trainings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Stage → results of each stage that trained, in the order in which they ran."""
    tables: list[dict[str, Any]] = field(default_factory=list)
    """What stages want to be shown, `{caption: …, header: […], rows: [[…]]}`: `tables` of their results."""
    generations: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Stage → results of each `generate`, in the recipe's order."""
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    """Stage → samples of each `generate`, with what judges said of their files as `judged`."""

    @classmethod
    def read(cls, run_dir: Path) -> RunFiles:
        results = run_dir / "results"
        stages = _json(run_dir / "stages.json")
        documents = {stage: _json(results / f"{stage}.json") for stage in stages}
        generations = _results(results, "generate")
        return cls(
            run_dir=run_dir,
            evaluations=_results(results, "evaluate"),
            suites=_results(results, "score_suites"),
            environment=_json(run_dir / "environment.json"),
            stages=stages,
            trainings={stage: found for stage, found in documents.items() if found.get("precision")},
            tables=[table for found in documents.values() for table in found.get("tables", [])],
            metrics=read_metrics(run_dir / METRICS_FILE),
            generations=generations,
            samples={
                stage: _samples(run_dir / samples_folder(stage), document)
                for stage, document in generations.items()
            },
        )

    def curve(self, stage: str, split: str, name: str) -> tuple[list[float], list[float]]:
        """Return steps and values of one metric; lines without it are left out."""
        found = [
            (float(line["step"]), float(line[name]))
            for line in self.metrics
            if line["stage"] == stage and line["split"] == split and is_number(line.get(name))
        ]
        return [step for step, _ in found], [value for _, value in found]

    @property
    def trained_stages(self) -> list[str]:
        """Stages that left metrics over time, in the order in which they ran."""
        return list(dict.fromkeys(line["stage"] for line in self.metrics))

    def metric_names(self, stage: str) -> list[str]:
        """Names of the numbers that a stage logged, in the order of their first appearance."""
        lines = (line for line in self.metrics if line["stage"] == stage)
        return list(dict.fromkeys(name for line in lines for name, value in line.items() if is_number(value)))


def _json(path: Path) -> dict[str, Any]:
    """Return a document of the run, empty when there is none. Raises: DataError when it is damaged."""
    try:
        return read_object(path, remedy="Delete it: the report then does without.")
    except FileNotFoundError:
        return {}


def _results(folder: Path, run: str) -> dict[str, dict[str, Any]]:
    """Return stage → results of every stage that runs `run`: `evaluate`, `evaluate_2`, …"""
    found: dict[int, str] = {}
    for path in folder.glob(f"{run}*.json"):
        match = re.fullmatch(rf"{run}(?:_(\d+))?", path.stem)
        if match is not None:
            found[int(match[1] or 1)] = path.stem
    return {found[number]: _json(folder / f"{found[number]}.json") for number in sorted(found)}


def _samples(folder: Path, generated: dict[str, Any]) -> list[Sample]:
    """Return the samples of one `generate`; older folders with other prompts are left out."""
    return [
        (folder / sample["folder"], _json(file) | {"judged": sample.get("judged", {})})
        for sample in generated.get("samples", [])
        if (file := folder / sample["folder"] / SAMPLE_FILE).exists()
    ]
