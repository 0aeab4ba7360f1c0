"""What a run folder holds, as far as it holds it: every part of a report may be missing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wavslm_core.evaluation.continuations import SAMPLE_FILE
from wavslm_core.metrics_file import METRICS_FILE, read_metrics


@dataclass(frozen=True)
class RunFiles:
    """The JSON documents of a run; empty where there is none."""

    run_dir: Path
    evaluate: dict[str, Any] = field(default_factory=dict)
    generate: dict[str, Any] = field(default_factory=dict)
    tokenize: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    samples: list[tuple[Path, dict[str, Any]]] = field(default_factory=list)
    """Folder and `sample.json` of each sample, in order."""

    @classmethod
    def read(cls, run_dir: Path) -> RunFiles:
        results = run_dir / "results"
        return cls(
            run_dir=run_dir,
            evaluate=_json(results / "evaluate.json"),
            generate=_json(results / "generate.json"),
            tokenize=_json(results / "tokenize.json"),
            environment=_json(run_dir / "environment.json"),
            stages=_json(run_dir / "stages.json"),
            metrics=read_metrics(run_dir / METRICS_FILE),
            samples=_samples(run_dir / "samples", _json(results / "generate.json")),
        )

    def curve(self, stage: str, split: str, name: str) -> tuple[list[float], list[float]]:
        """Return steps and values of one metric; lines without it are left out."""
        found = [
            (float(line["step"]), float(line[name]))
            for line in self.metrics
            if line.get("stage") == stage and line.get("split") == split and line.get(name) is not None
        ]
        return [step for step, _ in found], [value for _, value in found]

    @property
    def trained_stages(self) -> list[str]:
        """Stages that left metrics over time, in the order in which they ran."""
        return list(dict.fromkeys(line["stage"] for line in self.metrics if "stage" in line))

    def metric_names(self, stage: str) -> list[str]:
        """Names of the numbers that a stage logged, in the order of their first appearance."""
        lines = (line for line in self.metrics if line.get("stage") == stage)
        return list(
            dict.fromkeys(name for line in lines for name, value in line.items() if _is_number(value))
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    document = json.loads(path.read_text(encoding="utf-8"))
    return document if isinstance(document, dict) else {"": document}


def _samples(folder: Path, generated: dict[str, Any]) -> list[tuple[Path, dict[str, Any]]]:
    """Return the samples of the last `generate`; older folders with other prompts are left out."""
    names = [sample["folder"] for sample in generated.get("samples", [])]
    folders = [folder / name for name in names] or sorted(
        path.parent for path in folder.glob(f"*/{SAMPLE_FILE}")
    )
    return [(place, _json(place / SAMPLE_FILE)) for place in folders if (place / SAMPLE_FILE).exists()]
