"""The training loop, for every stage that trains. Reads top to bottom.

A killed run, started again, ends with the weights that it would have had: each step is a pure function of
the weights, the optimizer's state, the seed and the step's number, and the first two are in the checkpoint.

Several processes run this loop side by side, each on its part of every batch, and agree on what they do:
losses are means over all of them, and every decision follows from numbers that all have. Rank 0 writes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import torch

from wavslm_core.machine.processes import Interrupted, Pruned
from wavslm_core.machine.progress import Steps
from wavslm_core.run.context import StageContext
from wavslm_core.training.checkpoints import Checkpoints
from wavslm_core.training.config import TrainingConfig
from wavslm_core.training.device import choose_precision, forget_peak, seed_torch
from wavslm_core.training.guards import NonFiniteGuard, StuckGuard, check_buffers
from wavslm_core.training.learner import Turn, build_learners
from wavslm_core.training.precision_proof import PrecisionProof
from wavslm_core.training.promises import checked_scalars, players_of
from wavslm_core.training.resuming import Resumption
from wavslm_core.training.sharding import build_parallel
from wavslm_core.training.state import TrainState
from wavslm_core.training.task import Task
from wavslm_core.training.tracking import Tracker

logger = logging.getLogger(__name__)


def fit(task: Task, config: TrainingConfig, context: StageContext, *, stage: str) -> TrainState:
    """Train `task` for `config.steps` steps, continuing from `<run>/checkpoints/<stage>` if there is any.

    Afterwards `task.modules` hold the weights that `config.select` asks for, whole in every process.
    Raises: Interrupted, after a checkpoint, once any process was asked to stop, or Pruned; TrainingError when
    losses stay non-finite; CheckpointError when nothing can be read or written; LostProcessError.
    """
    with closing(task), context.processes.losing_nobody():
        training = _Training(task, config, context, stage)
        state, start_step = training.state, training.state.step
        with (
            Tracker(
                context.run_dir,
                stage,
                start_step=start_step,
                evaluated=not (training.to_validate or training.to_show),
                writes=context.rank == 0,
            ) as tracker,
            context.progress.steps(stage, total=config.steps, done=start_step) as progress,
        ):
            if start_step:
                progress.note(f"continuing from step {start_step}")
            if start_step < config.steps:
                training.choose_precision(progress)
            while True:
                if context.processes.any(context.stop_requested()):
                    training.save(tracker)
                    raise Interrupted(f"{stage} stopped at step {state.step} of {config.steps}")
                if training.to_validate:
                    training.validate(tracker, progress)
                    training.leave_if_behind(tracker)
                if training.to_show:
                    training.show(tracker)
                # A run that stopped here before it validated has a checkpoint that does not know of it yet.
                if training.is_due(config.checkpoint_every) or state.step == training.resumption.saved_step:
                    training.save(tracker)
                if state.step >= config.steps:
                    break
                turns = training.step()
                progress.update(state.step, loss=turns[-1].loss)
                if state.step == start_step + 1:
                    check_buffers(task.modules, context.processes)
                if training.is_due(config.log_every):
                    training.log(turns, tracker)
        if context.rank == 0:
            for learner in training.learners:
                learner.warn_of_unreached()
        training.resumption.select(state, config.select)
        for module in task.modules.values():
            module.eval()
        return state


class _Training:
    """What the loop does, and what it works with."""

    def __init__(self, task: Task, config: TrainingConfig, context: StageContext, stage: str) -> None:
        self.task = task
        self.config = config
        self.context = context
        self.stage = stage
        self.processes = context.processes
        players = players_of(task, config)
        self.parallel = build_parallel(task, players, config, context)
        self.learners = build_learners(players, task, config, context, self.parallel)
        checkpoints = Checkpoints(
            context.run_dir / "checkpoints" / stage,
            keep=config.keep_checkpoints,
            processes=context.processes,
            sharded=self.parallel.sharded,
        )
        self.resumption = Resumption(checkpoints, self.parallel, self.learners)
        self.state = self.resumption.restore()
        self.guard = NonFiniteGuard(total=self.state.skipped, in_a_row=self.state.skipped_in_a_row)
        self.stuck_guard = StuckGuard(self.state.stuck_since)
        self.logged_at = time.monotonic()
        self.tokens_since_log = 0

    def choose_precision(self, progress: Steps) -> None:
        """Decide in which arithmetic to train, and say so. Raises: TrainingError."""
        known = self.state.precision
        self.state.precision = chosen = choose_precision(
            self.config.precision,
            self.context.device,
            proofs=self.precision_proofs,
            known=known,
            processes=self.processes,
        )
        if known is not None and known.trained != chosen.trained:
            logger.warning(
                "until step %d this was trained in %s, on %s; it goes on in %s, on %s",
                *(self.state.step, known.trained, known.on, chosen.trained, chosen.on),
            )
        progress.note(str(chosen))
        # What the proof took, such as a second copy of all gradients, is not what training takes.
        forget_peak(self.context.device)

    def precision_proofs(self) -> Iterator[PrecisionProof]:
        for module in self.task.modules.values():
            module.train()
        for learner in self.learners:
            yield from learner.proofs(self.state.step)

    def is_due(self, every: int) -> bool:
        return self.state.due(every, steps=self.config.steps)

    @property
    def to_validate(self) -> bool:
        return self.is_due(self.config.validate_every) and self.state.validated_step < self.state.step

    @property
    def to_show(self) -> bool:
        return self.is_due(self.config.show_every) and self.state.shown_step < self.state.step

    def step(self) -> list[Turn]:
        """Let each player make one optimizer step, one after the other; return their turns."""
        state = self.state
        started = time.monotonic()
        assert state.precision is not None
        for module in self.task.modules.values():
            module.train()
        turns = [
            learner.take_turn(state.step, state.precision.trained)
            for learner in self.learners
            if learner.plays(state.step)
        ]
        for turn in turns:
            if turn.finite:
                state.add_loss(turn.player, turn.loss)
        self.guard_against([turn for turn in turns if not turn.finite])
        state.step += 1
        state.tokens += turns[-1].tokens
        self.tokens_since_log += turns[-1].tokens
        state.seconds += time.monotonic() - started
        return turns

    def guard_against(self, skipped: Sequence[Turn]) -> None:
        """Take note of turns that changed nothing. Raises: TrainingError, naming the worst batches first."""
        if not skipped:
            self.guard.passed()
            return
        turn = skipped[0]
        self.guard.skipped(
            self.state.step + 1,
            player=turn.player,
            loss=turn.loss,
            gradient_norm=turn.gradient_norm,
            batch=turn.batch(self.processes),
        )

    def log(self, turns: Sequence[Turn], tracker: Tracker) -> None:
        """Log the mean losses since the last line, and of this step everything else.

        Raises: TrainingError when that says that a player has been stuck for too long.
        """
        now = time.monotonic()
        values: dict[str, float] = {}
        numbers: dict[str, dict[str, float]] = {}
        for turn in turns:
            own = turn.metrics(self.processes) | {
                "loss": self.state.take_mean_loss(turn.player),
                "lr": turn.lr,
                "gradient_norm": turn.gradient_norm,
            }
            values |= {f"{turn.player}_{name}" if turn.player else name: own[name] for name in own}
            values["loss"] = own["loss"]
            numbers[turn.player] = own
        values |= {
            "tokens_per_s": self.tokens_since_log / max(now - self.logged_at, 1e-9),
            "skipped_steps": float(self.guard.total),
        }
        tracker.scalars("train", self.state.step, values)
        self.logged_at, self.tokens_since_log = now, 0
        for player in (learner.player for learner in self.learners):
            if player.name in numbers:
                self.stuck_guard.observe(
                    self.state.step,
                    player.name,
                    player.stuck(numbers[player.name]),
                    most_steps=player.most_stuck_steps,
                    says=tracker.writes,
                )

    def validate(self, tracker: Tracker, progress: Steps) -> None:
        # No autocast: what is compared and selected is the model as it is shipped.
        with self.not_training("validate"):
            valid = checked_scalars(self.parallel.evaluate(self.task.validate), self.task)
        tracker.scalars("valid", self.state.step, valid)
        for learner in self.learners:
            learner.schedule.observe(valid["loss"])
        is_best = self.state.observe(valid)
        suffix = " (best so far)" if is_best else ""
        progress.note(f"step {self.state.step}  validation loss {valid['loss']:.4f}{suffix}")
        if is_best and self.config.select == "best":
            self.resumption.save_best(self.state)

    def leave_if_behind(self, tracker: Tracker) -> None:
        """Raises: Pruned, after a checkpoint, when the run is behind others that it is compared with."""
        step, context = self.state.step, self.context
        behind = context.rank == 0 and context.pruned(self.stage, step, self.state.valid)
        if self.processes.broadcast(behind):
            self.save(tracker)
            raise Pruned(f"{self.stage} is behind others at step {step} of {self.config.steps}")

    def show(self, tracker: Tracker) -> None:
        with self.not_training("show"):
            self.parallel.evaluate(lambda: self.show_in(tracker) if tracker.writes else None)
        self.state.shown_step = self.state.step

    def show_in(self, tracker: Tracker) -> None:
        with tracker.showing("all of its audio and pictures"):
            self.task.show(tracker, self.state.step)

    @contextmanager
    def not_training(self, purpose: str) -> Iterator[None]:
        """Switch to eval mode without gradients, and do not count the time as training."""
        started = time.monotonic()
        seed_torch(self.config.seed_in(self.context), purpose, self.state.step, self.context.rank)
        for module in self.task.modules.values():
            module.eval()
        with torch.no_grad():
            yield
        self.logged_at += time.monotonic() - started

    def save(self, tracker: Tracker) -> None:
        """Write a checkpoint of this step, unless there is one that knows as much."""
        if self.resumption.is_saved(self.state):
            return
        tracker.flush()
        self.state.skipped, self.state.skipped_in_a_row = self.guard.total, self.guard.in_a_row
        check_buffers(self.task.modules, self.processes)
        self.resumption.save(self.state)
