"""A step of every stage that trains the codec at full size, on a crop of three seconds, and its parts.

Weights are random, recordings noise; the stages, their tasks and optimizers are the real ones, those of
`recipes/focalcodec_stream_4k.yaml` and `finetune_decoder`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.benchmarks.machine import ROOT, measured_apart, peak_memory_mb, time_calls
from tests.benchmarks.tables import print_table
from tests.support import noise_corpus
from wavslm_core.parts.roles import CODEC_ROLES
from wavslm_core.recipe.loading import load_recipe, recipe_from_dict
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.context import StageContext
from wavslm_core.training.learner import build_learners
from wavslm_core.training.promises import players_of
from wavslm_core.training.sharding import build_parallel

RECIPE = ROOT / "recipes" / "focalcodec_stream_4k.yaml"
FORWARD = ("teacher", "encoder", "quantizer", "decoder", "discriminators")
PARTS = (*FORWARD, "backward", "AdamW")
STAGES = ("train_decoder", "distill_positional", "distill_encoder", "train_quantizer", "train_codec_joint")
FINETUNE = {
    "run": "finetune_decoder",
    "steps": 9,
    "batch_size": 1,
    "adversarial": {"discriminators": [{"name": "multi_period"}, {"name": "multi_scale"}]},
}


def run() -> None:
    rows: list[list[object]] = []
    for stage in (*STAGES, "finetune_decoder"):
        # A process each, so that every peak is its own.
        found = measured_apart(__spec__.name, stage, torch.get_num_threads())
        shares = [100 * found[part] / found["step"] for part in PARTS]
        rows.append([stage, found["step"], *shares, max(0.0, 100 - sum(shares)), found["peak_mb"]])
    print_table(
        "a step of each stage at full size, fp32, one crop of 3 s; percent of it: forward passes by part",
        ["stage", "takes s", *(f"{part} %" for part in PARTS), "rest %", "peak MB"],
        rows,
    )


def measure(stage: str, folder: Path) -> dict[str, float]:
    """Return the seconds that a step takes, and each part of it."""
    context = replace(_context(noise_corpus(folder / "audio"), folder), stage_name=stage)
    config: Any = dict(context.recipe.named_stages())[stage]
    built = context.recipe.registry.build(config)
    task = built.make_task(built.build_model(context), context)
    spent: Counter[str] = Counter()
    codec = task.codec
    modules = {**{role: getattr(codec, role) for role in CODEC_ROLES}, **task.modules}
    if task.teacher is not codec.encoder:
        modules["teacher"] = task.teacher
    for name in FORWARD:
        if name in modules:
            _clock_forward(modules[name], name, spent)
    players = players_of(task, config)
    learners = build_learners(players, task, config, context, build_parallel(task, players, config, context))
    for learner in learners:
        learner.optimizer.step = _clocked(learner.optimizer.step, "AdamW", spent)  # type: ignore[method-assign]
    torch.Tensor.backward = _clocked(torch.Tensor.backward, "backward", spent)  # type: ignore[method-assign]
    for module in task.modules.values():
        module.train()
    steps = iter(range(9))

    def step() -> None:
        number = next(steps)
        spent.clear()
        for learner in learners:
            learner.take_turn(number, "fp32")

    durations = time_calls(step, repeats=1)
    task.close()
    return {part: spent[part] for part in PARTS} | {"step": durations[0].item(), "peak_mb": peak_memory_mb()}


def _context(audio: Path, folder: Path) -> StageContext:
    corpus = f"{{corpus: folder, path: {audio}}}"
    overrides = [f"data={corpus}", "launch.on=local", "launch.device=cpu"]
    for stage in STAGES:
        overrides += [f"stages.{stage}.{option}" for option in ("batch_size=1", "steps=9", "crop_seconds=3")]
        if stage != "train_quantizer":
            overrides.append(f"stages.{stage}.teacher.checkpoint=null")
    overrides += [f"stages.train_decoder.{option}={corpus}" for option in ("train_on", "validate_on")]
    document = load_recipe(RECIPE, overrides).unvalidated()
    recipe = recipe_from_dict({**document, "stages": [*document["stages"], FINETUNE]})
    return StageContext(resolve(recipe), folder / "run")


def _clock_forward(module: nn.Module, name: str, spent: Counter[str]) -> None:
    """Note what the outermost calls of a module take; its methods other than `forward` count, too."""
    for method in ("forward", "hidden_states", "encode", "decode", "positional_input"):
        if hasattr(module, method):
            setattr(module, method, _clocked(getattr(module, method), name, spent))


def _clocked(call: Callable[..., Any], name: str, spent: Counter[str]) -> Callable[..., Any]:
    def clocked(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*arguments, **options)
        finally:
            spent[name] += time.perf_counter() - start

    return clocked


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    with tempfile.TemporaryDirectory(prefix="codec-stages-") as place:
        print(json.dumps(measure(sys.argv[1], Path(place))))
