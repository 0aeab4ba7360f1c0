"""What the loop optimises: a task supplies losses, validation and pictures; the loop does the rest.

Who trains are its players. Most tasks have one; a generator and its discriminator are two, which take turns
in every step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from wavslm_core.training.config import OptimizerConfig, TrainingConfig

if TYPE_CHECKING:
    from wavslm_core.training.tracking import Tracker


@dataclass
class LossOutput:
    """One micro-batch's loss and what to log beside it."""

    loss: Tensor
    """Scalar to differentiate: the mean over the micro-batch."""
    metrics: dict[str, float | Tensor] = field(default_factory=dict)
    """Scalars to log, detached; the loop reads them only when it logs."""
    weight: float = 1.0
    """How much the mean is over, such as predicted tokens: micro-batches of one step count by it."""
    tokens: int = 0
    """Tokens or frames in the micro-batch, for throughput."""
    description: str = ""
    """Names the items in the batch, for the message when a loss is not finite."""


@dataclass(frozen=True)
class Player:
    """Weights, the loss that they lower, and how: each player has its optimizer, schedule and clipping limit.

    In a step, players take turns in the order in which the task names them, over the same micro-batches;
    meanwhile the weights of the others rest, so that gradients flow through them and not into them.
    """

    name: str
    """Stands before the names of its numbers; "" for the only one of a task."""
    loss: Callable[[int, int], LossOutput]
    """As `Task.loss`: step and micro-batch → what this player lowers."""
    modules: Mapping[str, nn.Module]
    """What it trains, of the task's `modules`."""
    config: OptimizerConfig
    starts_at_step: int = 0
    """Steps before which it does not play; its warm-up and its schedule begin there."""
    optimizer: Callable[[list[dict[str, Any]]], Optimizer] | None = None
    """Parameter groups → what makes its steps. Default: AdamW with what `config` says."""
    reaches_all_weights: bool = False
    """Whether its loss depends on every weight that it trains. Processes need not look for others then."""
    stuck: Callable[[Mapping[str, float]], str | None] = lambda numbers: None
    """Its numbers of a logged line → why it is of no use to the others and what to do; None: it is."""
    most_stuck_steps: int | None = None
    """Steps after the warning that it is stuck after which training ends with an error; None: never."""

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """What of its modules is not frozen, by name."""
        return {
            f"{part}.{name}": parameter
            for part, module in self.modules.items()
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }


class Task(ABC):
    """A model with its data.

    `loss`, or that of each player, is a pure function of the weights and its arguments, so that a resumed run
    sees exactly what an uninterrupted one would have seen. Randomness comes from torch's global generator,
    which the loop seeds anew before each micro-batch, validation and picture; Python's and NumPy's generators
    are not seeded.
    The loop switches `modules` between train and eval mode, turns gradients off for `validate` and `show`,
    and runs `loss`, and nothing else, under autocast.
    """

    reaches_all_weights = False
    """What `Player.reaches_all_weights` is of a single player."""

    @property
    @abstractmethod
    def modules(self) -> dict[str, nn.Module]:
        """Everything whose state belongs into a checkpoint, by name."""

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """What a loss passes through, by name, in that order: `modules`, and others that are not trained."""
        return self.modules

    def loss(self, step: int, micro_batch: int) -> LossOutput:
        """Return the loss of micro-batch `micro_batch` of optimizer step `step` (both from 0)."""
        raise NotImplementedError(f"{type(self).__name__} needs a method `loss`, or `players` with losses")

    def players(self, config: TrainingConfig) -> Sequence[Player]:
        """Return who trains; by default one, all `modules` lowering `loss` with the options of the stage.

        The loss of the last one is the one that is shown while training.
        """
        return (Player("", self.loss, self.modules, config, reaches_all_weights=self.reaches_all_weights),)

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Return validation scalars; `loss` is the one that the plateau schedule watches."""

    def about(self) -> dict[str, Any]:
        """Return what the stage's results are to say of the task, as JSON values."""
        return {}

    def leave(self) -> None:
        """Write what was trained beside the model, such as discriminators. Rank 0 calls it at the end."""
        return None

    def close(self) -> None:
        """End what works in the background; the loop calls it however training ends."""
        return None

    def show(self, tracker: Tracker, step: int) -> None:
        """Log pictures and audio, after `step` optimizer steps."""
        return None


def decayed_and_undecayed(modules: Iterable[nn.Module]) -> list[dict[str, Any]]:
    """Return AdamW groups in which matrices are decayed and vectors are not.

    A vector is whatever has at most one dimension larger than one: biases, norms, and per-channel scales
    stored as (D,1). A parameter that several modules share is listed once.
    """
    parameters = dict.fromkeys(p for module in modules for p in module.parameters() if p.requires_grad)
    matrices = [p for p in parameters if sum(size > 1 for size in p.shape) >= 2]
    vectors = [p for p in parameters if sum(size > 1 for size in p.shape) < 2]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
