"""What a task promises, held as far as training shows it: who trains what, what losses and validation give.

A fault of a task is told by the task's and the player's name, not by what breaks further down.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from wavslm_core.training.config import TrainingConfig
from wavslm_core.training.guards import TrainingError
from wavslm_core.training.task import LossOutput, Player, Task


def players_of(task: Task, config: TrainingConfig) -> tuple[Player, ...]:
    """Return who trains a task. Raises: TrainingError when they cannot be told apart, or train nothing."""
    players = tuple(task.players(config))
    if not players:
        raise TrainingError(f"{type(task).__name__}.players() names nobody: return at least one `Player`")
    names = [player.name for player in players]
    if len(players) != 1 and (not all(names) or len(set(names)) < len(names)):
        raise TrainingError(f"players are called {names}: several need a name each, one of its own")
    if all(player.starts_at_step for player in players):
        raise TrainingError("no player trains in step 0: let one start there, with `starts_at_step` 0")
    owners: dict[int, str] = {}
    for player in players:
        unknown = [name for name, module in player.modules.items() if task.modules.get(name) is not module]
        if unknown:
            raise TrainingError(
                f"player '{player.name}' trains {', '.join(unknown)}, but the task's modules are "
                f"{', '.join(task.modules)}: let it train some of these, or add it to the task's `modules`"
            )
        trained = player.weights.values()
        if not trained:
            raise TrainingError(
                f"player '{player.name}' has no weights that train: unfreeze some of its "
                f"modules ({', '.join(player.modules)}), or let it be no player"
            )
        if player.starts_at_step >= config.steps:
            raise TrainingError(
                f"player '{player.name}' starts at step {player.starts_at_step}, but there are only "
                f"{config.steps} steps: let it start earlier"
            )
        shared = [owners[id(p)] for p in trained if owners.setdefault(id(p), player.name) != player.name]
        if shared:
            raise TrainingError(
                f"players '{shared[0]}' and '{player.name}' train the same weight: give it to one of them"
            )
    for name, module in task.modules.items():
        idle = sum(p.requires_grad and id(p) not in owners for p in module.parameters())
        if idle:
            raise TrainingError(
                f"module '{name}' of the task has {idle} weights that no player trains: give it to a player, "
                "or freeze it with `requires_grad_(False)`"
            )
    return players


def checked_output(output: object, player: Player, task: Task) -> LossOutput:
    """Return what a player's loss gave. Raises: TrainingError when nothing can be learnt or logged of it."""
    if not isinstance(output, LossOutput):
        problem = f"its loss gave {_described(output)}; return LossOutput(loss, …) with a scalar"
    elif not isinstance(output.loss, Tensor) or output.loss.numel() != 1:
        problem = f"its loss is {_described(output.loss)}; return a scalar, such as the mean"
    elif not output.loss.requires_grad:
        problem = f"its loss depends on none of its weights; compute it with {', '.join(player.modules)}"
    else:
        problem = _odd_number(output.metrics)
        if not problem:
            return output
    raise TrainingError(f"{_named(player, task)}: {problem}")


def checked_scalars(scalars: Mapping[str, Any], task: Task) -> dict[str, float]:
    """Return what `validate` gave as numbers. Raises: TrainingError when it gave something else."""
    if not isinstance(scalars, Mapping):
        problem = f"it gave {_described(scalars)}; return a dictionary of numbers"
    elif "loss" not in scalars:
        problem = f"no `loss`, which schedules and `select` watch, is among {', '.join(scalars) or 'nothing'}"
    else:
        problem = _odd_number(scalars)
    if problem:
        raise TrainingError(f"{type(task).__name__}.validate(): {problem}")
    return {name: float(value) for name, value in scalars.items()}


def check_reach(output: LossOutput, player: Player, task: Task) -> None:
    """Make sure that a loss reaches no weights that nobody trains or saves. Raises: TrainingError."""
    known = {id(weight) for module in task.modules.values() for weight in module.parameters()}
    strangers = [weight for weight in _reached(output.loss) if id(weight) not in known]
    if strangers:
        names = {
            id(weight): f"{attribute}.{name}"
            for attribute, module in vars(task).items()
            if isinstance(module, nn.Module)
            for name, weight in module.named_parameters()
        }
        some = [names.get(id(weight), f"one of shape {list(weight.shape)}") for weight in strangers[:3]]
        raise TrainingError(
            f"{_named(player, task)}: gradients of its loss reach {len(strangers)} weights of none of the "
            f"task's `modules`, such as {', '.join(some)}: nobody trains or saves them. Add their module to "
            "`modules` and let a player train it, or freeze it with `requires_grad_(False)`"
        )


def _reached(loss: Tensor) -> Iterator[nn.Parameter]:
    """Yield the weights into which `backward` would put gradients."""
    seen: set[object] = set()
    waiting: list[Any] = [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        # Of all nodes, those that end in a leaf have one. Other leaves are inputs, as of gradient penalties.
        variable = getattr(node, "variable", None)
        if isinstance(variable, nn.Parameter):
            yield variable
        waiting += [following for following, _ in node.next_functions]


def _named(player: Player, task: Task) -> str:
    return f"player '{player.name}' of {type(task).__name__}" if player.name else type(task).__name__


def _odd_number(numbers: Mapping[str, Any]) -> str:
    """Return what is wrong with the first that is no number; nothing when all are."""
    for name, value in numbers.items():
        if not hasattr(value, "__float__") or math.prod(getattr(value, "shape", ())) != 1:
            return f"'{name}' is {_described(value)}; give a number, or a tensor of one"
    return ""


def _described(value: object) -> str:
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}{'' if shape is None else f' of shape {list(shape)}'}"
