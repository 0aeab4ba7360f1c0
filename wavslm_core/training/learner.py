"""A player at work: its optimizer, its schedule, and its turn in a step."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from wavslm_core.machine.processes import Processes
from wavslm_core.run.context import StageContext
from wavslm_core.training.blocks import recomputed, repeated_blocks, steady
from wavslm_core.training.config import TrainingConfig
from wavslm_core.training.device import seed_torch
from wavslm_core.training.optimizers import (
    build_optimizer,
    parameters_of,
    scale_and_clip,
    set_learning_rate,
)
from wavslm_core.training.parallel import Parallel
from wavslm_core.training.precision_proof import Arithmetic, PrecisionProof, autocast, prove
from wavslm_core.training.promises import check_reach, checked_output
from wavslm_core.training.schedules import build_schedule
from wavslm_core.training.task import LossOutput, Player, Task, decayed_and_undecayed

logger = logging.getLogger(__name__)


@dataclass
class Turn:
    """What one optimizer step of one player has to tell; `outputs` are this process's."""

    player: str
    loss: float
    gradient_norm: float
    lr: float
    tokens: int
    outputs: list[LossOutput]

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)

    def metrics(self, processes: Processes) -> dict[str, float]:
        """Return the means of what there is to log, over the micro-batches of all processes."""
        own = [
            (output.weight, {name: float(value) for name, value in output.metrics.items()})
            for output in self.outputs
        ]
        parts = [part for outputs in processes.gather(own) for part in outputs]
        total = sum(weight for weight, _ in parts)
        means = {name: 0.0 for _, metrics in parts for name in metrics}
        for weight, metrics in parts:
            for name, value in metrics.items():
                means[name] += value * weight / total
        return means

    def batch(self, processes: Processes) -> str:
        """Return what the batch holds, in all processes; what is not finite comes first."""
        outputs = sorted(self.outputs, key=lambda output: math.isfinite(float(output.loss)))
        finite = all(math.isfinite(float(output.loss)) for output in outputs)
        named = "; ".join(output.description for output in outputs if output.description)
        return "; ".join(text for _, text in sorted(processes.gather((finite, named)), key=lambda x: x[0]))


class Learner:
    """Makes a player's turns; `others` rest meanwhile."""

    def __init__(
        self, player: Player, task: Task, config: TrainingConfig, context: StageContext, parallel: Parallel
    ) -> None:
        self.player = player
        self.task = task
        self.config = config
        self.context = context
        self.parallel = parallel
        groups = decayed_and_undecayed(player.modules.values())
        self.optimizer = build_optimizer(groups, player.config, player.optimizer)
        self.parameters = parameters_of(self.optimizer)
        self.schedule = build_schedule(player.config, steps=config.steps - player.starts_at_step)
        self.others: list[Learner] = []
        self.recomputed: list[nn.Module] | None = None if config.activation_checkpointing else []
        """Blocks that are computed again in the backward pass; None: still to be found."""

    def plays(self, step: int) -> bool:
        return step >= self.player.starts_at_step

    def looks(self, step: int) -> bool:
        """Whether to look where gradients go: in the first turn, and in those that are logged."""
        is_logged = (step + 1) % self.config.log_every == 0
        # What is gathered for a pass is not what a module holds.
        return (is_logged or step == self.player.starts_at_step) and not self.parallel.sharded

    def take_turn(self, step: int, arithmetic: Arithmetic) -> Turn:
        """Make one optimizer step; leave the weights alone when loss or gradient is not finite."""
        player, accumulate = self.player, self.config.accumulate
        lr = set_learning_rate(self.optimizer, self.schedule.factor(step - player.starts_at_step))
        self.optimizer.zero_grad(set_to_none=True)
        outputs: list[LossOutput] = []
        with _resting(self.others):
            for micro_batch in range(accumulate):
                with self.parallel.exchanging(player, micro_batch + 1 == accumulate):
                    with autocast(arithmetic, self.context.device):
                        output = self.output(step, micro_batch)
                    if self.looks(step) and micro_batch == 0:
                        check_reach(output, player, self.task)
                    (output.loss * output.weight).backward()
                output.loss = output.loss.detach()
                outputs.append(output)
        loss_sum = torch.stack([output.loss.double() * output.weight for output in outputs]).sum()
        weight = sum(output.weight for output in outputs)
        tokens = sum(output.tokens for output in outputs)
        sums_3 = self.parallel.total(
            torch.stack([loss_sum, loss_sum.new_tensor(weight), loss_sum.new_tensor(tokens)])
        )
        # What was summed over processes so far is divided by their number: a mean over all of them is wanted.
        gradients = self.parallel.gradients(player, self.parameters)
        norm = scale_and_clip(
            gradients,
            norm=self.parallel.gradient_norm(gradients),
            scale=(self.context.world_size / sums_3[1]).float(),
            limit=player.config.clip_norm,
        )
        # One transfer, so that a GPU is waited for once a turn.
        loss, gradient_norm, all_tokens = torch.stack(
            [sums_3[0] / sums_3[1], norm.double(), sums_3[2]]
        ).tolist()
        turn = Turn(player.name, loss, gradient_norm, lr, round(all_tokens), outputs)
        if turn.finite:
            self.optimizer.step()
        return turn

    def output(self, step: int, micro_batch: int) -> LossOutput:
        """Return the loss of this process's part of a micro-batch, ready to be differentiated."""
        own = (self.player.name,) if self.player.name else ()
        seed_torch(self.config.seed_in(self.context), "train", step, micro_batch, self.context.rank, *own)
        outputs: list[LossOutput] = []
        if self.recomputed is None:
            self.recomputed = self._steady_blocks()

        def loss() -> Tensor:
            with recomputed(self.recomputed or ()):
                given = self.player.loss(step, micro_batch)
            outputs.append(checked_output(given, self.player, self.task))
            return outputs[0].loss

        # A wrapper may hand the loss on in its own way.
        loss_tensor = self.parallel.forward(self.player, loss)
        outputs[0].loss = loss_tensor
        if self.config.accumulate == self.context.world_size == 1:
            # Nothing to weigh it against, so that no gradient is multiplied to be divided again.
            outputs[0].weight = 1.0
        return outputs[0]

    def _steady_blocks(self) -> list[nn.Module]:
        """Return layers that may be computed twice, be it in the first step or in the last."""
        modules = self.task.modules.values()
        root = nn.ModuleList(modules)
        blocks = [block for module in modules for block in repeated_blocks(module)]
        for step in {self.player.starts_at_step, self.config.steps - 1}:
            blocks = steady(root, blocks, partial(self.parallel.evaluate, partial(self.player.loss, step, 0)))
        if not blocks and self.context.rank == 0:
            logger.warning(
                "activation_checkpointing changes nothing: no layer of an nn.ModuleList runs that leaves its "
                "buffers alone. Leave it out"
            )
        return blocks

    def warn_of_unreached(self) -> None:
        """Say which weights no step has changed: what begins late has begun once training ends.

        The optimizer's state, which checkpoints keep, tells; of those that have none, nothing is known.
        """
        state, weights = self.optimizer.state, self.player.weights
        unreached = [name for name, weight in weights.items() if state and weight not in state]
        if unreached:
            whose = f"player '{self.player.name}': " if self.player.name else ""
            logger.warning(
                "%s%d of %d weights got no gradient in any step, such as %s: the loss does not depend on "
                "them. Let it, or freeze them with `requires_grad_(False)`",
                *(whose, len(unreached), len(weights), ", ".join(unreached[:3])),
            )

    def proofs(self, step: int) -> Iterator[PrecisionProof]:
        """Try bf16 on the next batch and on the last, where what begins later, such as codes, is on."""
        for tried in sorted({max(step, self.player.starts_at_step), self.config.steps - 1}):
            with _resting(self.others):
                proof = prove(
                    partial(self._loss, tried),
                    self.task.parts,
                    device=self.context.device,
                    processes=self.context.processes,
                    pass_context=lambda: self.parallel.exchanging(self.player, False),
                )
            yield replace(proof, player=self.player.name, step=tried)

    def _loss(self, step: int) -> Tensor:
        return self.output(step, 0).loss


def build_learners(
    players: Sequence[Player], task: Task, config: TrainingConfig, context: StageContext, parallel: Parallel
) -> list[Learner]:
    """Return who makes the players' turns, in their order."""
    learners = [Learner(player, task, config, context, parallel) for player in players]
    for learner in learners:
        learner.others = [one for one in learners if one is not learner]
    return learners


@contextmanager
def _resting(learners: Sequence[Learner]) -> Iterator[None]:
    """Let nothing change these players: no gradient reaches their weights, and their buffers come back.

    Buffers are what forward passes move, such as codebooks that follow a moving average: each moves in the
    turns of its own player.
    """
    modules = [module for learner in learners for module in learner.player.modules.values()]
    before = [(module, name, buffer.clone()) for module in modules for name, buffer in module.named_buffers()]
    weights = [weight for learner in learners for weight in learner.parameters]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
        for module, name, buffer in before:
            module.get_buffer(name).copy_(buffer)
