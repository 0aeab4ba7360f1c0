"""A training job of milliseconds: a task with dropout and fresh data at each step, and a run of it.

Run as a script, it is a process to kill: `python tiny_job.py RUN_DIR [OPTIONS AS JSON]`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wavslm_core.machine.processes import Interrupted
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.context import StageContext
from wavslm_core.training.config import OptimizerConfig, TrainingConfig
from wavslm_core.training.loop import fit
from wavslm_core.training.state import TrainState
from wavslm_core.training.task import LossOutput, Player, Task
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


class TinyGanConfig(TinyConfig):
    """The critic goes its own way in everything."""

    critic: OptimizerConfig = OptimizerConfig(
        lr=3e-3, betas=(0.5, 0.9), schedule="constant", warmup_steps=2, clip_norm=0.02
    )
    starts_at_step: int = 0
    """When the critic begins."""


def blocks(*sizes: int, dropout: float) -> nn.Module:
    """Layers in a module list, as FSDP divides them."""
    return _Blocks(
        nn.Sequential(nn.Linear(first, last), nn.Dropout(dropout)) for first, last in pairwise(sizes)
    )


class _Blocks(nn.ModuleList):
    def forward(self, x: Tensor) -> Tensor:
        for number, block in enumerate(self):
            x = block(x if number == 0 else torch.tanh(x))
        return x


class TinyGan(Task):
    """A generator that shall turn noise into what a linear map gives, and a critic that tells them apart."""

    def __init__(
        self,
        config: TinyGanConfig,
        *,
        dropout: float = 0.1,
        share: tuple[int, int] = (0, 1),
        not_finite: tuple[int, ...] = (),
        optimizer: Any = None,
    ) -> None:
        torch.manual_seed(0)
        self.config = config
        self.generator = blocks(6, 16, 16, 3, dropout=dropout)
        self.critic = blocks(9, 16, 1, dropout=dropout)
        self.target = torch.randn(6, 3)
        self.rank, self.world_size = share
        self.not_finite = not_finite
        self.optimizer = optimizer
        self.turns: list[tuple[str, int, int]] = []

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "critic": self.critic}

    def players(self, config: TrainingConfig) -> Sequence[Player]:
        late = self.config.starts_at_step
        return (
            Player(
                "critic",
                self.critic_loss,
                {"critic": self.critic},
                self.config.critic,
                late,
                reaches_all_weights=True,
            ),
            Player(
                "generator",
                self.generator_loss,
                {"generator": self.generator},
                config,
                optimizer=self.optimizer,
                reaches_all_weights=True,
            ),
        )

    def examples(self, step: int, micro_batch: int) -> tuple[Tensor, Tensor]:
        """Return this process's share of a micro-batch."""
        size = self.config.micro_batch_size // self.world_size
        first = step * self.config.batch_size + micro_batch * self.config.micro_batch_size
        return self.numbered(first + self.rank * size, size)

    def numbered(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        rows = [torch.randn(6, generator=torch.Generator().manual_seed(first + i)) for i in range(count)]
        noise = torch.stack(rows)
        return noise, torch.tanh(noise @ self.target)

    def critic_loss(self, step: int, micro_batch: int) -> LossOutput:
        self.turns.append(("critic", step, micro_batch))
        noise, wanted = self.examples(step, micro_batch)
        fake = self.generator(noise)
        assert not fake.requires_grad or not torch.is_grad_enabled(), "the generator rests"
        real_score = self.critic(torch.cat([noise, wanted], dim=1))
        fake_score = self.critic(torch.cat([noise, fake], dim=1))
        loss = (real_score - 1).square().mean() + fake_score.square().mean()
        if step in self.not_finite:
            loss = loss * torch.nan
        return LossOutput(loss, {"real": real_score.detach().mean()}, description=f"examples of {step}")

    def generator_loss(self, step: int, micro_batch: int) -> LossOutput:
        self.turns.append(("generator", step, micro_batch))
        noise, wanted = self.examples(step, micro_batch)
        fake = self.generator(noise)
        score = self.critic(torch.cat([noise, fake], dim=1))
        loss = (fake - wanted).square().mean() + 0.1 * (score - 1).square().mean()
        return LossOutput(loss, tokens=len(noise))

    def validate(self) -> dict[str, float]:
        noise, wanted = self.numbered(10_000_000, 16)
        return {"loss": float((self.generator(noise) - wanted).square().mean())}


def train_gan(
    run_dir: Path,
    *,
    stop_requested: Any = lambda: False,
    task_options: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[TinyGan, TrainState]:
    config = TinyGanConfig(**options)
    task = TinyGan(config, **(task_options or {}))
    state = fit(task, config, context_for(run_dir, stop_requested=stop_requested), stage=STAGE)
    return task, state


def context_for(run_dir: Path, **options: Any) -> StageContext:
    return StageContext(
        recipe=resolve(recipe_from_dict({"name": "tiny", "seed": 7})), run_dir=run_dir, **options
    )


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
