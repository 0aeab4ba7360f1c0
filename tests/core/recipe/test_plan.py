"""What a dry run says of sizes, and of what cannot fit."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import FAKES
from wavslm_core.data.folder import FolderConfig
from wavslm_core.parts.configs import Config
from wavslm_core.parts.registry import Entry, Registry
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.plan import make_plan
from wavslm_core.recipe.resolving import resolve
from wavslm_core.stages.train_codec import TrainCodecConfig
from wavslm_core.stages.train_lm import TrainLmConfig
from wavslm_core.testing.fakes import register_fakes

PARTS = FAKES
HUGE = 10**9


def entry(config_class: type[Config], target: str) -> Entry:
    return Entry(config_class.role, config_class.registered_name(), config_class, target, "core", "test")


@pytest.fixture(scope="module")
def registry() -> Registry:
    registry = Registry()
    register_fakes(registry)
    registry.add(entry(FolderConfig, "wavslm_core.data.folder:Folder"))
    registry.add(entry(TrainCodecConfig, "wavslm_core.stages.train_codec:TrainCodec"))
    registry.add(entry(TrainLmConfig, "wavslm_core.stages.train_lm:TrainLm"))
    return registry


def warning(registry: Registry, stage: dict[str, Any], **blocks: Any) -> str:
    document = {"name": "one", "data": {"corpus": "folder", "path": "speech"}, **PARTS}
    document |= {"stages": [{"steps": 10, **stage}], "launch": {"on": "local", "device": "cpu"}, **blocks}
    (plan,) = make_plan(resolve(recipe_from_dict(document, registry=registry))).stages
    return plan.warning


@pytest.mark.parametrize("run", ["train_codec", "train_lm"])
def test_a_batch_that_no_machine_can_hold_is_told_with_what_there_is(registry: Registry, run: str) -> None:
    assert warning(registry, {"run": run}) == ""
    said = warning(registry, {"run": run, "batch_size": HUGE})
    assert said.startswith(f"{run} needs ")
    assert "for the 1,000,000,000 items that pass through at once" in said
    assert "but this machine has " in said
    assert "raise accumulate" in said
    # Micro-batches are what has to fit.
    assert warning(registry, {"run": run, "batch_size": HUGE, "accumulate": HUGE}) == ""


def test_a_model_that_no_machine_can_hold_is_told_with_what_there_is(registry: Registry) -> None:
    parts = {"encoder": {"name": "fake", "dim": 10**10}}
    said = warning(registry, {"run": "train_codec"}, **parts)
    assert "TB for weights and optimizer" in said
    assert "but this machine has " in said


def test_what_a_job_asks_for_is_what_it_has(registry: Registry) -> None:
    launch = {"on": "slurm", "memory_gb": 4.0, "tasks_per_node": 2, "device": "cpu"}
    stage = {"run": "train_codec", "batch_size": 2 * 40_000}
    said = warning(registry, stage, launch=launch)
    assert "but launch.memory_gb is 4, which 2 processes share" in said
    assert warning(registry, stage, launch={**launch, "memory_gb": 400.0}) == ""
    on_gpus = {"on": "slurm", "gpus_per_node": 4}
    assert "no GPU has more than 300 GB" in warning(registry, {**stage, "batch_size": HUGE}, launch=on_gpus)
