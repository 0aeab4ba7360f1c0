"""Training with weights, gradients and optimizer state divided among processes (FSDP2).

Each repeated block is gathered right before it runs and let go after it; what is left over, or read in other
ways than by running a block, is gathered for the whole pass. Weights are gathered in fp32 and cast by
autocast, as everywhere else, so that dividing them changes no number: sending bf16 would halve the traffic
and round norms and biases. Has been run on gloo only.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from wavslm_core.model.weights import own_part
from wavslm_core.run.context import StageContext
from wavslm_core.training.blocks import read_outside, repeated_blocks
from wavslm_core.training.checkpoints import load_modules
from wavslm_core.training.config import TrainingConfig
from wavslm_core.training.optimizers import JointOptimizer
from wavslm_core.training.parallel import Alone, Caller, DataParallel, Parallel, Result, States
from wavslm_core.training.sharded_checkpoints import load_shards
from wavslm_core.training.task import Player, Task


class FullyShardedParallel(Parallel):
    """See the module."""

    sharded = True

    def __init__(
        self, task: Task, players: Sequence[Player], config: TrainingConfig, context: StageContext
    ) -> None:
        super().__init__(task, context)
        # Nothing writes into what a module returned.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
        _take_from_rank_0(task)
        self._twins = _twins(task.modules)
        mesh = init_device_mesh(self.device.type, (context.world_size,))
        self._root = Caller(task.modules).train()
        blocks = self._divisible_blocks(players, config)
        for module in (*blocks, self._root):
            fully_shard(module, mesh=mesh)
        self._blocks = [cast(FSDPModule, block) for block in blocks]

    def _divisible_blocks(self, players: Sequence[Player], config: TrainingConfig) -> list[nn.Module]:
        """Return blocks that can be gathered one by one; the weights of others are gathered all along."""
        blocks = list(repeated_blocks(self._root))
        outside: set[int] = set()
        # What is off in the first step, such as codes, is on in the last.
        for player in players:
            for step in {player.starts_at_step, config.steps - 1}:
                outside |= read_outside(self._root, blocks, partial(player.loss, step, 0))
        outside = set().union(*self.processes.gather(outside))
        return [block for number, block in enumerate(blocks) if number not in outside]

    def forward(self, player: Player, call: Callable[[], Tensor]) -> Tensor:
        loss: Tensor = self._root(call)
        return loss

    def evaluate(self, call: Callable[[], Result]) -> Result:
        def with_all_weights() -> Result:
            for block in self._blocks:
                block.unshard()
            return call()

        # Gathered once and kept meanwhile, as processes may take turns of their own through the blocks.
        for block in self._blocks:
            block.set_reshard_after_forward(False, recurse=False)
        result: Result = self._root(with_all_weights)
        for block in self._blocks:
            block.set_reshard_after_forward(True, recurse=False)
            block.reshard()
        cast(FSDPModule, self._root).reshard()
        return result

    def gradients(self, player: Player, parameters: list[nn.Parameter]) -> list[Tensor]:
        return [own_part(gradient) for gradient in super().gradients(player, parameters)]

    def gradient_norm(self, gradients: list[Tensor]) -> Tensor:
        square = super().gradient_norm(gradients).square()
        dist.all_reduce(square)
        return square.sqrt()

    def whole_states(self) -> States:
        states: States = {}
        for name, state in self.states().items():
            states[name] = {}
            for key, value in state.items():
                whole = value.full_tensor() if isinstance(value, DTensor) else value
                if self.processes.rank == 0:
                    states[name][key] = whole.cpu()
        return states

    def load(self, states: Mapping[str, dict[str, Tensor]], *, source: str) -> None:
        own = self.states()
        divided = {
            name: {key: _divided_like(value, own.get(name, {}).get(key)) for key, value in state.items()}
            for name, state in states.items()
        }
        load_modules(self.task.modules, divided, source=source)

    def restore(self, content: dict[str, Any], optimizer: JointOptimizer, *, source: str) -> None:
        parameters = optimizer.parameters
        if "folder" in content:
            states, moments = load_shards(content, self.states(), parameters, processes=self.processes)
            load_modules(self.task.modules, states, source=source)
        else:
            self.load(content["modules"], source=source)
            moments = {
                index: {key: _divided_like(value, parameters[index]) for key, value in entry.items()}
                for index, entry in content["optimizer"]["state"].items()
            }
        optimizer.load_state_dict(content["optimizer"] | {"state": moments})

    def finish(self) -> None:
        for name, module in self.task.modules.items():
            twin = self._twins[name]
            state = {
                key: value.full_tensor() if isinstance(value, DTensor) else value
                for key, value in module.state_dict().items()
            }
            twin.load_state_dict(state, assign=True)
            # The same object, as others refer to it, with everything that FSDP has put into it gone.
            module.__class__ = type(twin)
            module.__dict__.clear()
            module.__dict__.update(twin.__dict__)


def _take_from_rank_0(task: Task) -> None:
    """Give every process rank 0's weights and buffers, should initial ones differ, in memory order."""
    with torch.no_grad():
        for module in task.modules.values():
            for value in (*module.parameters(), *module.buffers()):
                # Convolutions may have channels last, which FSDP does not divide.
                value.data = value.data.contiguous()
                dist.broadcast(value.detach(), src=0)


def _twins(modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Return copies without weights of their own that share the modules' buffers."""
    memo: dict[int, Any] = {}
    for module in modules.values():
        for parameter in module.parameters():
            meta = torch.empty_like(parameter, device="meta")
            memo[id(parameter)] = nn.Parameter(meta, requires_grad=parameter.requires_grad)
        memo |= {id(buffer): buffer for buffer in module.buffers()}
    return {name: copy.deepcopy(module, memo) for name, module in modules.items()}


def _divided_like(value: Any, target: Tensor | None) -> Any:
    """Return a whole tensor divided as the target is; anything of another shape stays as it is."""
    if not isinstance(target, DTensor) or not isinstance(value, Tensor) or value.shape != target.shape:
        return value
    on_device = value.to(target.device)
    # Every process has read the same file: nothing needs to be sent.
    return distribute_tensor(on_device, target.device_mesh, target.placements, src_data_rank=None)


def build_parallel(
    task: Task, players: Sequence[Player], config: TrainingConfig, context: StageContext
) -> Parallel:
    """Return the strategy that the stage's `launch.parallel` names, or `Alone` for one process."""
    if context.world_size == 1:
        return Alone(task, context)
    if context.recipe.launch_for(config).parallel == "ddp":
        return DataParallel(task, players, context)
    return FullyShardedParallel(task, players, config, context)
