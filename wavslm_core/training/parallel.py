"""How processes train one model together: alone, or each with all weights (DDP).

A strategy runs the task's forward passes, sums what processes know, and reads and fills the modules. The
loop is the same for all of them.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wavslm_core.machine.processes import Processes
from wavslm_core.run.context import StageContext
from wavslm_core.training.checkpoints import load_modules
from wavslm_core.training.guards import TrainingError
from wavslm_core.training.optimizers import JointOptimizer
from wavslm_core.training.sharded_checkpoints import read_sharded
from wavslm_core.training.task import Player, Task

Result = TypeVar("Result")
States = dict[str, dict[str, Tensor]]


class Caller(nn.Module):
    """The modules of a task as one, whose forward pass is whatever it is given.

    Wrappers such as DDP hook into the forward pass of a module; with this, a task computes its loss as it
    likes and they still see where it begins and ends.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(modules)

    def forward(self, call: Callable[[], Result]) -> Result:
        return call()


class Parallel(ABC):
    """See the module. Made before the optimizer: weights may be replaced."""

    def __init__(self, task: Task, context: StageContext) -> None:
        self.task = task
        self.device = context.device
        self.processes: Processes = context.processes

    sharded = False
    """Whether a checkpoint is made of what each process holds."""

    @abstractmethod
    def forward(self, player: Player, call: Callable[[], Tensor]) -> Tensor:
        """Run a forward pass that gives a player's loss; `backward` of it ends with what `total` says of
        gradients."""

    def evaluate(self, call: Callable[[], Result]) -> Result:
        """Run anything that only reads weights; processes may do different things in it."""
        return call()

    def exchanging(self, player: Player, wanted: bool) -> AbstractContextManager[None]:
        """Return a context for a player's forward and backward pass that exchanges gradients if wanted."""
        return nullcontext()

    def total(self, values_N: Tensor) -> Tensor:
        """Return the sums (N,) over all processes. Gradients are such sums divided by the world size."""
        if self.processes.world_size > 1:
            dist.all_reduce(values_N)
        return values_N

    def gradients(self, player: Player, parameters: list[nn.Parameter]) -> list[Tensor]:
        """Return the gradients of a player's weights that this process holds, to be changed in place."""
        return [parameter.grad for parameter in parameters if parameter.grad is not None]

    def gradient_norm(self, gradients: list[Tensor]) -> Tensor:
        """Return the norm of all gradients as one vector, those of other processes included (0-d)."""
        return torch.nn.utils.get_total_norm(gradients).to(self.device)

    def whole_states(self) -> States:
        """Return each module's weights as they would be in one process; complete in rank 0 only."""
        return self.states()

    def states(self) -> States:
        """Return each module's weights as this process holds them."""
        return {name: module.state_dict() for name, module in self.task.modules.items()}

    def load(self, states: Mapping[str, dict[str, Tensor]], *, source: str) -> None:
        """Fill the modules with whole weights. Raises: CheckpointError when they do not fit."""
        load_modules(self.task.modules, states, source=source)

    def restore(self, content: dict[str, Any], optimizer: JointOptimizer, *, source: str) -> None:
        """Fill modules and optimizer from what `Checkpoints.latest` found, however many wrote it."""
        if "folder" in content:
            content = content | read_sharded(content)
        self.load(content["modules"], source=source)
        optimizer.load_state_dict(content["optimizer"])

    def finish(self) -> None:
        """Turn the task's modules back into ordinary ones with all weights."""
        return None


class Alone(Parallel):
    """One process."""

    def forward(self, player: Player, call: Callable[[], Tensor]) -> Tensor:
        return call()


class DataParallel(Parallel):
    """Every process has all weights; gradients are averaged while the backward pass still runs (DDP).

    Each player has a wrapper of its own, since in its turn the others' weights get no gradients.
    """

    def __init__(self, task: Task, players: Sequence[Player], context: StageContext) -> None:
        super().__init__(task, context)
        # Of dimensions of size one, strides are arbitrary: nothing is copied that would not be anyway.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        # Buffers are not copied from rank 0: parts whose buffers learn share the rows they learn from.
        with warnings.catch_warnings():
            # Its successor is younger than the oldest torch that we support.
            warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
            self._wrapped = {
                player.name: DistributedDataParallel(
                    Caller(player.modules),
                    broadcast_buffers=False,
                    find_unused_parameters=not player.reaches_all_weights,
                    gradient_as_bucket_view=True,
                )
                for player in players
            }

    def forward(self, player: Player, call: Callable[[], Tensor]) -> Tensor:
        loss: Tensor = self._wrapped[player.name](call)
        return loss

    def exchanging(self, player: Player, wanted: bool) -> AbstractContextManager[None]:
        return nullcontext() if wanted else self._wrapped[player.name].no_sync()

    def gradients(self, player: Player, parameters: list[nn.Parameter]) -> list[Tensor]:
        gradients = super().gradients(player, parameters)
        if player.reaches_all_weights and len(gradients) < len(parameters):
            missing = [name for name, weight in player.weights.items() if weight.grad is None]
            raise TrainingError(
                f"{', '.join(missing[:3])} got no gradient, but processes that train by "
                "DDP wait for one of every weight. Freeze what is not used (requires_grad_(False)), or set "
                "launch.parallel to fsdp"
            )
        return gradients
