"""A training job of milliseconds: a task with dropout and fresh data at each step, and a run of it.

Run as a script, it is a process to kill: `python tiny_job.py RUN_DIR [OPTIONS AS JSON]`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wavslm_core.machine.interruption import Interrupted
from wavslm_core.recipe import Recipe
from wavslm_core.run.context import StageContext
from wavslm_core.training.config import TrainingConfig
from wavslm_core.training.loop import fit
from wavslm_core.training.state import TrainState
from wavslm_core.training.task import LossOutput, Task
from wavslm_core.training.tracking import Tracker

STAGE = "tiny"


class TinyConfig(TrainingConfig):
    """Small defaults under which everything in the loop happens."""

    run: str = STAGE
    steps: int = 24
    batch_size: int = 8
    accumulate: int = 2
    lr: float = 1e-2
    schedule: Any = "plateau"
    warmup_steps: int = 3
    validate_every: int = 5
    checkpoint_every: int = 4
    log_every: int = 3
    show_every: int = 12
    select: Any = "best"
    precision: Any = "fp32"


class TinyTask(Task):
    """Learns a fixed linear map from noisy examples."""

    def __init__(
        self,
        config: TinyConfig,
        *,
        dropout: float = 0.2,
        before_step: Callable[[int], None] = lambda step: None,
        not_finite: tuple[int, ...] = (),
    ) -> None:
        torch.manual_seed(0)
        self.config = config
        self.net = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 3))
        self.scale = nn.Linear(3, 3)
        self.target = torch.randn(6, 3)
        self.before_step = before_step
        self.not_finite = not_finite
        self.seen_steps: list[int] = []

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"net": self.net, "scale": self.scale}

    def examples(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        rows = [torch.randn(6, generator=torch.Generator().manual_seed(first + i)) for i in range(count)]
        inputs = torch.stack(rows)
        return inputs, torch.tanh(inputs @ self.target)

    def loss(self, step: int, micro_batch: int) -> LossOutput:
        self.before_step(step)
        self.seen_steps.append(step)
        size = self.config.micro_batch_size
        inputs, wanted = self.examples(step * self.config.batch_size + micro_batch * size, size)
        loss = (self.scale(self.net(inputs)) - wanted).square().mean()
        if step in self.not_finite:
            loss = loss * torch.nan
        return LossOutput(
            loss, metrics={"doubled": 2 * loss.detach()}, tokens=size, description=f"examples of {step}"
        )

    def validate(self) -> dict[str, float]:
        inputs, wanted = self.examples(10_000_000, 16)
        return {"loss": float((self.scale(self.net(inputs)) - wanted).square().mean())}

    def show(self, tracker: Tracker, step: int) -> None:
        tracker.audio("noise", torch.rand(160) * 2 - 1, 16000, step)


class UnevenTask(TinyTask):
    """Four examples a step: at once, or one and then three."""

    def loss(self, step: int, micro_batch: int) -> LossOutput:
        first, size = ((0, 1), (1, 3))[micro_batch] if self.config.accumulate == 2 else (0, 4)
        inputs, wanted = self.examples(4 * step + first, size)
        return LossOutput((self.scale(self.net(inputs)) - wanted).square().mean(), weight=size)


def context_for(run_dir: Path, **options: Any) -> StageContext:
    return StageContext(recipe=Recipe.from_dict({"name": "tiny", "seed": 7}), run_dir=run_dir, **options)


def train(
    run_dir: Path,
    *,
    stop_requested: Any = lambda: False,
    task_options: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[TinyTask, TrainState]:
    config = TinyConfig(**options)
    task = TinyTask(config, **(task_options or {}))
    state = fit(task, config, context_for(run_dir, stop_requested=stop_requested), stage=STAGE)
    return task, state


def die_at_sync(count: int) -> None:
    """Let the process kill itself at its `count`-th fsync: a checkpoint is written, but not yet in place."""
    real, calls = os.fsync, [0]

    def fsync(fd: Any) -> None:
        calls[0] += 1
        if calls[0] == count:
            os.kill(os.getpid(), signal.SIGKILL)
        real(fd)

    os.fsync = fsync


def main() -> int:
    run_dir, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    stop: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: stop.append(number))
    if "die_at_sync" in options:
        die_at_sync(options.pop("die_at_sync"))
    waits_before = options.pop("waits_before", None)
    parent = os.getppid()

    def wait(step: int) -> None:
        # Not longer than a test that failed.
        while step == waits_before and not stop and os.getppid() == parent:
            time.sleep(0.01)

    task_options = {"before_step": wait}
    try:
        task, _ = train(run_dir, stop_requested=lambda: bool(stop), task_options=task_options, **options)
    except Interrupted:
        return 130
    torch.save({name: module.state_dict() for name, module in task.modules.items()}, run_dir / "final.pt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
