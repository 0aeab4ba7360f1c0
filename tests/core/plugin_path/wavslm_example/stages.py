"""Stages that show how a run treats them: one that counts and continues, one that breaks in chosen ways."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import time
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from wavslm_core.errors import DataError
from wavslm_core.machine.processes import Interrupted, Pruned
from wavslm_core.parts.configs import RecipeView, Role, StageConfig
from wavslm_core.run.context import StageContext
from wavslm_core.run.metrics_file import read_metrics
from wavslm_core.stages.base import Stage
from wavslm_core.stages.train_codec import TrainCodec, TrainCodecConfig
from wavslm_example.configs import LearnConfig

if TYPE_CHECKING:
    from wavslm_core.model.codec import Codec
    from wavslm_core.training.task import LossOutput, Task


class CountConfig(StageConfig):
    """Count to `steps` in a file, continuing where it stopped."""

    run: Literal["count"] = "count"
    steps: int = 3
    """How far to count."""
    pause_s: float = 0.0
    """Seconds per step, until it may hurry."""
    deaf: bool = False
    """Do not listen to requests to stop."""


class BreakConfig(StageConfig):
    """Break."""

    run: Literal["break"] = "break"
    how: Literal["mendable", "bug", "disk", "killed", "bare"] = "mendable"
    """In which way."""
    rank: int | None = None
    """Which of several processes breaks; none: each."""

    def needs_modules(self) -> dict[str, str]:
        return {"hammer": "pip install hammer"} if self.how == "bare" else {}


class DescendConfig(StageConfig):
    """Do what a training stage does outwardly: validate a loss that falls from 10 towards `floor`."""

    run: Literal["descend"] = "descend"
    trains: ClassVar[tuple[Role, ...]] = ("head",)
    steps: int = 20
    """How many; one in five is validated."""
    rate: float = 0.1
    """How fast it falls."""
    floor: float = 1.0
    """Where to."""
    pause_s: float = 0.0
    """Seconds per step, until it may hurry."""


class PatientConfig(TrainCodecConfig):
    """Train a codec, and be still at it when it is interrupted, however late that is."""

    run: Literal["train_patiently"] = "train_patiently"  # type: ignore[assignment]
    waits_before: tuple[int, ...] = ()
    """Steps, from 0, before which the last process waits to be stopped, or until it may hurry."""


def may_hurry(context: StageContext) -> bool:
    """Tell whether there is `hurry` in the run's folder, or `NAME.hurry` beside it and its name begins so."""
    run = context.run_dir
    beside = (path.name.removesuffix(".hurry") for path in run.parent.glob("*.hurry"))
    return (run / "hurry").exists() or any(run.name.startswith(name) for name in beside)


class Count(Stage[CountConfig]):
    def run(self, context: StageContext) -> None:
        path = context.run_dir / f"{context.stage_name}.txt"
        done = len(path.read_text().split()) if path.exists() else 0
        for step in range(done, self.config.steps):
            with path.open("a") as file:
                file.write(f"{step}\n")
            context.progress.tell(step + 1, total=self.config.steps, unit="numbers")
            if not may_hurry(context):
                time.sleep(self.config.pause_s)
            if context.stop_requested() and not self.config.deaf:
                raise Interrupted

    def plan(self, recipe: RecipeView) -> dict[str, Any]:
        return {"numbers": self.config.steps}


class Descend(Stage[DescendConfig]):
    def run(self, context: StageContext) -> None:
        path = context.run_dir / "metrics.jsonl"
        done = max((line["step"] for line in read_metrics(path)), default=0)
        for step in range(done + 1, self.config.steps + 1):
            if not may_hurry(context):
                time.sleep(self.config.pause_s)
            if step % 5 == 0:
                loss = self.config.floor + (10 - self.config.floor) * math.exp(-self.config.rate * step)
                line = {"stage": context.stage_name, "split": "valid", "step": step, "loss": loss}
                with path.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                if context.pruned(context.stage_name, step, {"loss": loss}):
                    raise Pruned
            if context.stop_requested():
                raise Interrupted


class Patient(TrainCodec):
    config: PatientConfig

    def make_task(self, model: Codec, context: StageContext) -> Task:
        task = super().make_task(model, context)
        loss = task.loss

        def wait_and_lose(step: int, micro_batch: int) -> LossOutput:
            if step in self.config.waits_before and context.rank == context.processes.world_size - 1:
                while not may_hurry(context) and not context.stop_requested():
                    time.sleep(0.02)
            return loss(step, micro_batch)

        task.loss = wait_and_lose  # type: ignore[method-assign]
        return task


class Learn(Stage[LearnConfig]):
    def run(self, context: StageContext) -> None:
        context.run_dir.joinpath("learned.txt").write_text(str(context.device))


class Break(Stage[BreakConfig]):
    def run(self, context: StageContext) -> None:
        if self.config.rank not in (None, context.rank):
            return
        if self.config.how == "mendable":
            raise DataError("the shelf is empty. Put something on it.")
        if self.config.how == "disk":
            raise OSError(errno.ENOSPC, "No space left on device", "weights.bin")
        if self.config.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("a wheel came off")
