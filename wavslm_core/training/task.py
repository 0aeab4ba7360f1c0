"""What the loop optimises: a task supplies losses, validation and pictures; the loop does the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

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


class Task(ABC):
    """A model with its data.

    `loss` is a pure function of the weights and its arguments, so that a resumed run sees exactly what an
    uninterrupted one would have seen. Randomness comes from torch's global generator, which the loop seeds
    anew before each micro-batch, validation and picture; Python's and NumPy's generators are not seeded.
    The loop switches `modules` between train and eval mode, turns gradients off for `validate` and `show`,
    and runs `loss`, and nothing else, under autocast.
    """

    reaches_all_weights = False
    """Whether each loss depends on every weight that is trained. Processes need not look for others then."""

    @property
    @abstractmethod
    def modules(self) -> dict[str, nn.Module]:
        """Everything whose state belongs into a checkpoint, by name."""

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """What a loss passes through, by name, in that order: `modules`, and others that are not trained."""
        return self.modules

    @abstractmethod
    def loss(self, step: int, micro_batch: int) -> LossOutput:
        """Return the loss of micro-batch `micro_batch` of optimizer step `step` (both from 0)."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Return validation scalars; `loss` is the one that the plateau schedule watches."""

    def close(self) -> None:
        """End what works in the background; the loop calls it however training ends."""
        return None

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return AdamW parameter groups; a group may have its own `lr` or `weight_decay`."""
        return decayed_and_undecayed(self.modules.values())

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
