"""Chooses how processes train together."""

from __future__ import annotations

from collections.abc import Sequence

from wavslm_core.run.context import StageContext
from wavslm_core.training.config import TrainingConfig
from wavslm_core.training.parallel import Alone, DataParallel, Parallel
from wavslm_core.training.sharding import FullyShardedParallel
from wavslm_core.training.task import Player, Task


def build_parallel(
    task: Task, players: Sequence[Player], config: TrainingConfig, context: StageContext
) -> Parallel:
    """Return the strategy that the stage's `launch.parallel` names, or `Alone` for one process."""
    if context.world_size == 1:
        return Alone(task, context)
    if context.recipe.launch_for(config).parallel == "ddp":
        return DataParallel(task, players, context)
    return FullyShardedParallel(task, players, config, context)
