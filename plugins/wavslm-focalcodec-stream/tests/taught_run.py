"""A small run in which a codec learns from a teacher: gliding tones, and a WavLM of 20 ms hops; what can
happen to it: a kill, a second process, batches of one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from wavslm_core.data.audio import write_audio
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import ResolvedRecipe
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.context import StageContext
from wavslm_core.testing.fakes import register_fakes
from wavslm_core.training.task import LossOutput

PARALLEL_JOB = Path(__file__).parents[3] / "tests/core/training/parallel_job.py"

WAVLM = {
    "name": "wavlm",
    "hidden_dims": [16, 16],
    "kernel_sizes": [20, 32],
    "strides": [10, 32],
    "dim": 16,
    "ffn_dim": 32,
    "num_heads": 2,
    "num_layers": 2,
    "num_buckets": 16,
    "max_distance": 24,
    "conv_pos": 8,
    "conv_pos_groups": 2,
    "window_size": 32,
}
"""Full context; with `causal: true`, the student."""


def write_tones(folder: Path, seconds: dict[str, list[float]]) -> Path:
    """Write a recording of each length (s) for each split."""
    for split, lengths in seconds.items():
        for number, length in enumerate(lengths):
            time_S = torch.arange(round(length * 16000)) / 16000
            pitch_hz = 120 + 40 * number + 60 * torch.sin(3 * time_S + number)
            phase_S = 2 * torch.pi * pitch_hz.cumsum(0) / 16000
            wave_S = sum(torch.sin(n * phase_S) / n for n in range(1, 8)) * torch.sin(5 * time_S).relu()
            write_audio(folder / split / f"{number}.wav", 0.2 * wave_S, 16000)
    return folder


def make_context(folder: Path, *stages: dict[str, Any], name: str = "run", **recipe: Any) -> StageContext:
    """Return a run in `folder`, of stages that its recordings and a codec with a causal WavLM are for."""
    return StageContext(make_recipe(folder, *stages, **recipe), folder / "runs" / name)


def run_stages(context: StageContext) -> dict[str, dict[str, Any]]:
    """Run the stages of a run, as far as they are not done; return the results of each."""
    results = {}
    for name, config in context.recipe.named_stages():
        here = replace(context, stage_name=name)
        stage = context.recipe.registry.build(config)
        if not stage.left_results(here):
            stage.run(here)
        results[name] = json.loads(stage.results_file(here).read_text())
    return results


def make_recipe(folder: Path, *stages: dict[str, Any], **recipe: Any) -> ResolvedRecipe:
    register_fakes()
    document = {
        "name": "taught",
        "seed": 3,
        "encoder": {**WAVLM, "causal": True},
        "quantizer": {"name": "fake"},
        "decoder": {"name": "fake"},
        "data": {"corpus": "folder", "path": str(folder / "audio")},
        "stages": list(stages),
        **recipe,
    }
    return resolve(recipe_from_dict(document))


class Killed(BaseException):
    """What no handler expects, as a kill."""


def run_stages_once_killed(
    context: StageContext, task: type, monkeypatch: pytest.MonkeyPatch
) -> dict[str, dict[str, Any]]:
    """Kill a run of six steps at a random one, run it again, and return the results of each stage."""
    loss, last = task.loss, random.Random(os.urandom(4)).randrange(1, 6)

    def dying(task: Any, step: int, micro_batch: int) -> LossOutput:
        if (step, micro_batch) == (last, 1):
            raise Killed
        output: LossOutput = loss(task, step, micro_batch)
        return output

    with monkeypatch.context() as patched:
        patched.setattr(task, "loss", dying)
        with pytest.raises(Killed):
            run_stages(context)
    return run_stages(context)


def run_in_two_processes(folder: Path, work: Path, stage: dict[str, Any], **recipe: Any) -> Path:
    """Run a stage of a run in `folder` in two processes; return where."""
    encoder = {**WAVLM, "causal": True}
    data = {"corpus": "folder", "path": str(folder / "audio")}
    job = {"do": "run_stage", "run_dir": str(work / "both"), "corpus": data["path"], "stage": stage}
    job["recipe"] = {"encoder": encoder, "data": data, **recipe}
    groups = work / "groups.json"
    groups.write_text(json.dumps({"all": [job]}))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(PARALLEL_JOB), str(groups)], env=environment, check=True)
    ends = json.loads((work / "ends.json").read_text())
    assert [ends["all"][rank]["code"] for rank in "01"] == [0, 0], (work / "all.err.0").read_text()
    return work / "both"


def losses_of_items(task: Any, monkeypatch: pytest.MonkeyPatch) -> list[LossOutput]:
    """Return the loss of each item of the first batch, when it is a batch of its own."""
    batch = task.batch(0, 0)
    outputs = []
    for row in range(len(batch.crops)):
        one = type(batch)(*(items[row : row + 1] for items in vars(batch).values()))
        monkeypatch.setattr(task, "batch", lambda *_, one=one: one)
        task._taught.clear()
        outputs.append(task.loss(0, 0))
    return outputs
