"""The training loop, for every stage that trains. Reads top to bottom.

A killed run, started again, ends with the weights that it would have had: each step is a pure function of
the weights, the optimizer's state, the seed and the step's number, and the first two are in the checkpoint.

Several processes run this loop side by side, each on its part of every batch, and agree on what they do:
losses are means over all of them, and every decision follows from numbers that all have. Rank 0 writes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import torch

from wavslm_core.errors import CheckpointError
from wavslm_core.machine.interruption import Interrupted, Pruned
from wavslm_core.run.context import StageContext
from wavslm_core.training.buffers import check_buffers
from wavslm_core.training.checkpoints import Checkpoints
from wavslm_core.training.config import TrainingConfig
from wavslm_core.training.guard import NonFiniteGuard
from wavslm_core.training.memory import forget_peak
from wavslm_core.training.optimizers import (
    build_optimizer,
    parameters_of,
    scale_and_clip,
    set_learning_rate,
)
from wavslm_core.training.precision import choose_precision
from wavslm_core.training.precision_proof import PrecisionProof, autocast, prove
from wavslm_core.training.progress import TrainingProgress
from wavslm_core.training.randomness import seed_torch
from wavslm_core.training.schedules import Schedule, build_schedule
from wavslm_core.training.state import TrainState
from wavslm_core.training.strategies import build_parallel
from wavslm_core.training.task import LossOutput, Task
from wavslm_core.training.tracking import SilentTracker, Tracker

logger = logging.getLogger(__name__)


def fit(task: Task, config: TrainingConfig, context: StageContext, *, stage: str) -> TrainState:
    """Train `task` for `config.steps` steps, continuing from `<run>/checkpoints/<stage>` if there is any.

    Afterwards `task.modules` hold the weights that `config.select` asks for, whole in every process.
    Raises: Interrupted, after a checkpoint, once any process was asked to stop, or Pruned; TrainingError when
    losses stay non-finite; CheckpointError when nothing can be read or written; LostProcessError.
    """
    with closing(task), context.processes.losing_nobody():
        return _Fit(task, config, context, stage).run()


@dataclass
class _Step:
    """What one optimizer step has to tell; `outputs` are this process's."""

    loss: float
    gradient_norm: float
    lr: float
    outputs: list[LossOutput]


class _Fit:
    def __init__(self, task: Task, config: TrainingConfig, context: StageContext, stage: str) -> None:
        self.task = task
        self.config = config
        self.context = context
        self.stage = stage
        self.seed = config.seed_in(context)
        self.processes = context.processes
        self.parallel = build_parallel(task, config, context)
        self.optimizer = build_optimizer(task.parameter_groups(), config)
        self.parameters = parameters_of(self.optimizer)
        self.schedule: Schedule = build_schedule(config)
        self.checkpoints = Checkpoints(
            context.run_dir / "checkpoints" / stage,
            keep=config.keep_checkpoints,
            processes=context.processes,
            sharded=self.parallel.sharded,
        )
        self.state = TrainState()
        self.guard = NonFiniteGuard()
        self.saved = self.progress_mark
        self.logged_at = time.monotonic()
        self.tokens_since_log = 0

    def run(self) -> TrainState:
        config, context = self.config, self.context
        self.restore()
        start_step = self.state.step
        evaluated = not (self.to_validate or self.to_show)
        writes = context.rank == 0
        tracker_class = Tracker if writes else SilentTracker
        with (
            tracker_class(context.run_dir, self.stage, start_step=start_step, evaluated=evaluated) as tracker,
            TrainingProgress(self.stage, steps=config.steps, start_step=start_step, shown=writes) as progress,
        ):
            if start_step:
                progress.note(f"continuing from step {start_step}")
            if start_step < config.steps:
                self.choose_precision(progress)
            while True:
                if self.processes.any(context.stop_requested()):
                    self.save(tracker)
                    raise Interrupted(f"{self.stage} stopped at step {self.state.step} of {config.steps}")
                if self.to_validate:
                    self.validate(tracker, progress)
                    self.leave_if_behind(tracker)
                if self.to_show:
                    self.show(tracker)
                # A run that stopped here before it validated has a checkpoint that does not know of it yet.
                if self.is_due(config.checkpoint_every) or self.state.step == self.saved[0]:
                    self.save(tracker)
                if self.state.step >= config.steps:
                    break
                step = self.train_step()
                progress.update(self.state.step, loss=step.loss)
                context.pulse.beat(stage=self.stage, done=self.state.step, total=config.steps, loss=step.loss)
                if self.state.step == start_step + 1:
                    check_buffers(self.task.modules, self.processes)
                if self.is_due(config.log_every):
                    self.log(step, tracker)
        self.select()
        return self.state

    def choose_precision(self, progress: TrainingProgress) -> None:
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
        """Try bf16 on the next batch and on the last, where what begins later, such as codes, is on."""
        for module in self.task.modules.values():
            module.train()
        for step in sorted({self.state.step, self.config.steps - 1}):

            def loss(step: int = step) -> torch.Tensor:
                seed_torch(self.seed, "train", step, 0, self.context.rank)
                return self.parallel.forward(lambda: self.task.loss(step, 0).loss)

            yield prove(
                loss,
                self.task.parts,
                device=self.context.device,
                processes=self.processes,
                pass_context=lambda: self.parallel.exchanging(False),
            )

    def is_due(self, every: int) -> bool:
        return self.state.due(every, steps=self.config.steps)

    @property
    def to_validate(self) -> bool:
        return self.is_due(self.config.validate_every) and self.state.validated_step < self.state.step

    @property
    def to_show(self) -> bool:
        return self.is_due(self.config.show_every) and self.state.shown_step < self.state.step

    @property
    def progress_mark(self) -> tuple[int, int, int]:
        """What two checkpoints of the same step can differ in."""
        return self.state.step, self.state.validated_step, self.state.shown_step

    def train_step(self) -> _Step:
        """Make one optimizer step; leave the weights alone when loss or gradient is not finite."""
        config, state = self.config, self.state
        started = time.monotonic()
        for module in self.task.modules.values():
            module.train()
        lr = set_learning_rate(self.optimizer, self.schedule.factor(state.step))
        self.optimizer.zero_grad(set_to_none=True)
        outputs: list[LossOutput] = []
        for micro_batch in range(config.accumulate):
            seed_torch(self.seed, "train", state.step, micro_batch, self.context.rank)
            with self.parallel.exchanging(micro_batch + 1 == config.accumulate):
                output = self.forward(micro_batch)
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
        gradients = self.parallel.gradients(self.parameters)
        norm = scale_and_clip(
            gradients,
            norm=self.parallel.gradient_norm(gradients),
            scale=(self.processes.world_size / sums_3[1]).float(),
            limit=config.clip_norm,
        )
        # One transfer, so that a GPU is waited for once a step.
        loss, gradient_norm, tokens_float = torch.stack(
            [sums_3[0] / sums_3[1], norm.double(), sums_3[2]]
        ).tolist()
        if math.isfinite(loss) and math.isfinite(gradient_norm):
            self.optimizer.step()
            self.guard.passed()
            state.loss_sum += loss
            state.loss_count += 1
        else:
            self.skip(outputs, loss=loss, gradient_norm=gradient_norm)
        state.step += 1
        state.tokens += round(tokens_float)
        self.tokens_since_log += round(tokens_float)
        state.seconds += time.monotonic() - started
        return _Step(loss, gradient_norm, lr, outputs)

    def forward(self, micro_batch: int) -> LossOutput:
        """Return the loss of this process's part of a micro-batch, ready to be differentiated."""
        outputs: list[LossOutput] = []

        def loss() -> torch.Tensor:
            outputs.append(self.task.loss(self.state.step, micro_batch))
            return outputs[0].loss

        assert self.state.precision is not None
        with autocast(self.state.precision.trained, self.context.device):
            # A wrapper may hand the loss on in its own way.
            loss_tensor = self.parallel.forward(loss)
        outputs[0].loss = loss_tensor
        if self.config.accumulate == self.processes.world_size == 1:
            # Nothing to weigh it against, so that no gradient is multiplied to be divided again.
            outputs[0].weight = 1.0
        return outputs[0]

    def skip(self, outputs: list[LossOutput], *, loss: float, gradient_norm: float) -> None:
        """Take note of a step that is left out. Raises: TrainingError, naming the worst batches first."""
        outputs = sorted(outputs, key=lambda output: math.isfinite(float(output.loss)))
        finite = all(math.isfinite(float(output.loss)) for output in outputs)
        named = "; ".join(output.description for output in outputs if output.description)
        batch = "; ".join(
            text for _, text in sorted(self.processes.gather((finite, named)), key=lambda x: x[0])
        )
        self.guard.skipped(self.state.step + 1, loss=loss, gradient_norm=gradient_norm, batch=batch)

    def log(self, step: _Step, tracker: Tracker) -> None:
        """Log the mean loss since the last line, and of this step everything else."""
        state = self.state
        now = time.monotonic()
        own = [
            (output.weight, {name: float(value) for name, value in output.metrics.items()})
            for output in step.outputs
        ]
        parts = [part for outputs in self.processes.gather(own) for part in outputs]
        total = sum(weight for weight, _ in parts)
        values = {name: 0.0 for _, metrics in parts for name in metrics}
        for weight, metrics in parts:
            for name, value in metrics.items():
                values[name] += value * weight / total
        values |= {
            "loss": state.loss_sum / state.loss_count if state.loss_count else math.nan,
            "lr": step.lr,
            "gradient_norm": step.gradient_norm,
            "tokens_per_s": self.tokens_since_log / max(now - self.logged_at, 1e-9),
            "skipped_steps": float(self.guard.total),
        }
        tracker.scalars("train", state.step, values)
        state.loss_sum, state.loss_count = 0.0, 0
        self.logged_at, self.tokens_since_log = now, 0

    def validate(self, tracker: Tracker, progress: TrainingProgress) -> None:
        # No autocast: what is compared and selected is the model as it is shipped.
        with self.not_training("validate"):
            found = self.parallel.evaluate(self.task.validate)
            valid = {name: float(value) for name, value in found.items()}
        tracker.scalars("valid", self.state.step, valid)
        self.schedule.observe(valid["loss"])
        is_best = self.state.observe(valid)
        suffix = " (best so far)" if is_best else ""
        progress.note(f"step {self.state.step}  validation loss {valid['loss']:.4f}{suffix}")
        if is_best and self.config.select == "best":
            self.checkpoints.save_best(self.state.step, self.parallel.whole_states())

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
        seed_torch(self.seed, purpose, self.state.step, self.context.rank)
        for module in self.task.modules.values():
            module.eval()
        with torch.no_grad():
            yield
        self.logged_at += time.monotonic() - started

    def save(self, tracker: Tracker) -> None:
        """Write a checkpoint of this step, unless there is one that knows as much."""
        if self.saved == self.progress_mark:
            return
        tracker.flush()
        self.state.skipped, self.state.skipped_in_a_row = self.guard.total, self.guard.in_a_row
        check_buffers(self.task.modules, self.processes)
        content = {
            "state": self.state.state_dict(),
            "modules": self.parallel.states(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        self.checkpoints.save(self.state.step, content)
        self.saved = self.progress_mark

    def restore(self) -> None:
        """Continue from the newest checkpoint that can be read, if there is any."""
        content = self.checkpoints.latest()
        if content is None:
            return
        source = f"the checkpoint in {self.checkpoints.folder}"
        try:
            self.state = TrainState.from_state_dict(content["state"])
            self.parallel.restore(content, self.optimizer, source=source)
            self.schedule.load_state_dict(content["schedule"])
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"{source} belongs to other options or another version ({reason}). "
                "Delete that folder to start this stage again, or restore the recipe it was made with"
            ) from error
        self.guard = NonFiniteGuard(total=self.state.skipped, in_a_row=self.state.skipped_in_a_row)
        self.saved = self.progress_mark

    def select(self) -> None:
        """Put the weights that the config asks for into the modules, as ordinary ones."""
        state = self.state
        state.selected_step = state.step
        if self.config.select == "best" and state.best_step is not None and state.best_step != state.step:
            try:
                best = self.checkpoints.read_best(state.best_step)
            except CheckpointError as error:
                logger.warning("%s; keeping the weights of the last step instead of the best", error)
            else:
                source = f"the best weights in {self.checkpoints.folder}"
                self.parallel.load(best, source=source)
                state.selected_step = state.best_step
        self.parallel.finish()
        for module in self.task.modules.values():
            module.eval()
