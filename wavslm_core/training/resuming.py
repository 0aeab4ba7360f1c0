"""What a checkpoint holds of training, and how training goes on from one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal

from wavslm_core.errors import CheckpointError
from wavslm_core.training.checkpoints import Checkpoints
from wavslm_core.training.learner import Learner
from wavslm_core.training.optimizers import JointOptimizer
from wavslm_core.training.parallel import Parallel
from wavslm_core.training.state import TrainState

logger = logging.getLogger(__name__)


class Resumption:
    """State, weights, optimizers and schedules of a training run, to be saved and to go on from."""

    def __init__(self, checkpoints: Checkpoints, parallel: Parallel, learners: Sequence[Learner]) -> None:
        self._checkpoints = checkpoints
        self._parallel = parallel
        self._learners = learners
        self._optimizer = JointOptimizer([learner.optimizer for learner in learners])
        self._saved = TrainState().mark

    @property
    def saved_step(self) -> int:
        """The step of the newest checkpoint; 0 without any."""
        return self._saved[0]

    def is_saved(self, state: TrainState) -> bool:
        """Return whether there is a checkpoint that knows as much."""
        return self._saved == state.mark

    def save(self, state: TrainState) -> None:
        """Write a checkpoint. Raises: CheckpointError."""
        content = {
            "state": state.state_dict(),
            "modules": self._parallel.states(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": _schedule_states(self._learners),
        }
        self._checkpoints.save(state.step, content)
        self._saved = state.mark

    def save_best(self, state: TrainState) -> None:
        """Write the weights alone, as those with the lowest validation loss. Raises: CheckpointError."""
        self._checkpoints.save_best(state.step, self._parallel.whole_states())

    def restore(self) -> TrainState:
        """Go on from the newest checkpoint that can be read, if there is any; return where it stood.

        Raises: CheckpointError.
        """
        content = self._checkpoints.latest()
        if content is None:
            return TrainState()
        source = f"the checkpoint in {self._checkpoints.folder}"
        try:
            state = TrainState.from_state_dict(content["state"])
            self._parallel.restore(content, self._optimizer, source=source)
            _load_schedules(self._learners, content["schedule"])
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"{source} belongs to other options or another version ({reason}). "
                "Delete that folder to start this stage again, or restore the recipe it was made with"
            ) from error
        self._saved = state.mark
        return state

    def select(self, state: TrainState, wanted: Literal["last", "best"]) -> None:
        """Put the weights that are wanted into the modules, as ordinary ones."""
        state.selected_step = state.step
        if wanted == "best" and state.best_step is not None and state.best_step != state.step:
            try:
                best = self._checkpoints.read_best(state.best_step)
            except CheckpointError as error:
                logger.warning("%s; keeping the weights of the last step instead of the best", error)
            else:
                self._parallel.load(best, source=f"the best weights in {self._checkpoints.folder}")
                state.selected_step = state.best_step
        self._parallel.finish()


def _schedule_states(learners: Sequence[Learner]) -> dict[str, Any]:
    """Return the state of the schedule, of several players of each by name."""
    if not learners[0].player.name:
        return learners[0].schedule.state_dict()
    return {learner.player.name: learner.schedule.state_dict() for learner in learners}


def _load_schedules(learners: Sequence[Learner], states: dict[str, Any]) -> None:
    """Undo `_schedule_states`. Raises: ValueError, KeyError when other players gave it."""
    if not learners[0].player.name:
        learners[0].schedule.load_state_dict(states)
        return
    names = [learner.player.name for learner in learners]
    if list(states) != names:
        raise ValueError(f"its players are {', '.join(states) or 'not named'}, not {', '.join(names)}")
    for learner in learners:
        learner.schedule.load_state_dict(states[learner.player.name])
