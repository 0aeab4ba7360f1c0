"""Runs the stages of a run folder in order: finished ones are skipped, the interrupted one continues."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavslm_core.data.atomic import remove_leftovers
from wavslm_core.errors import WavslmError
from wavslm_core.launching.base import Outcome, Say
from wavslm_core.launching.lock import RunLock
from wavslm_core.launching.run_folder import saved_recipe
from wavslm_core.launching.signals import StopRequest
from wavslm_core.launching.stage_record import STAGES_FILE, StageRecord
from wavslm_core.registry import Registry
from wavslm_core.run_context import Interrupted, StageContext
from wavslm_core.stages.base import Stage

if TYPE_CHECKING:
    import torch


def run_stages(run_dir: Path, say: Say, *, registry: Registry | None = None) -> Outcome:
    """Run every unfinished stage of `run_dir/recipe.yaml`; `stages.json` records which are done.

    Raises: WavslmError, and whatever a stage raises.
    """
    with RunLock(run_dir), StopRequest() as stop:
        remove_leftovers(run_dir)
        recipe = saved_recipe(run_dir, registry=registry)
        record = StageRecord(run_dir / STAGES_FILE)
        for name, config in recipe.named_stages():
            stage: Stage[Any] = recipe.registry.build(config)
            context = StageContext(
                recipe=recipe,
                run_dir=run_dir,
                device=choose_device(recipe.launch.device),
                stop_requested=stop,
                stage_name=name,
            )
            if record.finished(name) and stage.left_results(context):
                say(f"stage {name}: finished before, skipped")
                continue
            if stop():
                return Outcome("interrupted", name)
            say(f"stage {name}: running")
            began = time.monotonic()
            record.begin(name)
            try:
                stage.run(context)
            except Interrupted:
                record.end(name, "interrupted", time.monotonic() - began)
                return Outcome("interrupted", name)
            except Exception:
                # A full disk may be why the stage failed; its own message is the one to show.
                with suppress(WavslmError):
                    record.end(name, "failed", time.monotonic() - began)
                raise
            record.end(name, "finished", time.monotonic() - began)
            say(f"stage {name}: finished in {time.monotonic() - began:.1f} s")
    return Outcome("finished")


def is_finished(run_dir: Path, *, registry: Registry | None = None) -> bool:
    """Tell whether `run_stages` would find nothing to do."""
    recipe = saved_recipe(run_dir, registry=registry)
    record = StageRecord(run_dir / STAGES_FILE)
    return all(
        record.finished(name)
        and recipe.registry.build(config).left_results(StageContext(recipe, run_dir, stage_name=name))
        for name, config in recipe.named_stages()
    )


def choose_device(name: str) -> torch.device:
    """Return the device that `launch.device` means here. Raises: WavslmError when there is none such."""
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if available[device])
    if not available[name]:
        there = ", ".join(device for device, usable in available.items() if usable)
        raise WavslmError(f"launch.device is {name}, but PyTorch sees none here. Usable: {there}, or auto.")
    return torch.device(name)
