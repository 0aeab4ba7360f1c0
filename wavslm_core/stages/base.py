"""What a stage must do.

A stage reads what earlier stages left in the run folder (`context.found`), does one thing, and leaves its own
results there (`context.place`). One that trains starts from what an earlier one left (`context.earlier`).
It is called again after an interruption and then continues where it stopped; once it returns it is
recorded as finished and skipped from then on. Stage modules hold config and class in one file, so they
import torch inside `run` only: listing and checking stages stays light.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from wavslm_core.machine.json_files import parse_object
from wavslm_core.machine.regular_files import read_regular
from wavslm_core.parts.configs import RecipeView, Role, StageConfig
from wavslm_core.run.context import StageContext
from wavslm_core.training.config import TrainingConfig

if TYPE_CHECKING:
    from pathlib import Path

    from wavslm_core.training.state import TrainState
    from wavslm_core.training.task import Task

RESULTS_DIR = "results"
TRAIN_CODEC = "put `- {run: train_codec}` before it or name a trained codec with `codec: {checkpoint: …}`"
TRAIN_LM = "put `- {run: train_lm}` before it or name a trained model with its `speech_lm`"
"""What to do when a stage has no codec, or no language model, to read."""

StageConfigT = TypeVar("StageConfigT", bound=StageConfig)
TrainingConfigT = TypeVar("TrainingConfigT", bound=TrainingConfig)
Model = TypeVar("Model")


def streamed_roles(recipe: RecipeView) -> tuple[Role, ...]:
    """Return the roles that generating runs chunk by chunk; who reads tokens needs no features."""
    backbone = recipe.facts.get("backbone")
    reads_tokens = backbone is not None and backbone.input == "embedding"
    return ("backbone",) if reads_tokens else ("quantizer", "backbone")


def tokenize_first(*splits: str) -> dict[str, str]:
    """Return what a config's `reads` says of the tokens of splits."""
    wanted = "" if set(splits) <= {"train", "valid"} else f", splits: [{', '.join(splits)}]"
    return {f"tokens/{split}": f"put `- {{run: tokenize{wanted}}}` before it" for split in splits}


def speech_lm_plan(
    reference: str | None, recipe: RecipeView, *, what: str = "language model"
) -> dict[str, str]:
    """Return what `--dry-run` says of a language model from elsewhere; nothing when none is named."""
    if reference is None:
        return {}
    from wavslm_core.recipe.plan import checkpoint_text

    return {what: checkpoint_text(reference, recipe.registry, kind="speech_lm")}


def read_results(run_dir: Path, stage: str) -> dict[str, Any]:
    """Return what a stage of a run wrote as its results; nothing when there are none that can be read."""
    try:
        return parse_object(read_regular(run_dir / RESULTS_DIR / f"{stage}.json"))
    except (OSError, ValueError):
        return {}


class Stage(ABC, Generic[StageConfigT]):
    """One thing that a recipe does. Built as `Class(config)`."""

    def __init__(self, config: StageConfigT) -> None:
        self.config = config

    @abstractmethod
    def run(self, context: StageContext) -> None:
        """Do it. Raises: Interrupted when asked to stop; WavslmError on what a user can mend."""

    def name_in(self, context: StageContext) -> str:
        """Return what this stage is called in its run, such as `evaluate_2`."""
        return context.stage_name or self.config.registered_name()

    def write_results(self, context: StageContext, results: Mapping[str, Any]) -> None:
        """Write `results/<name>.json`, what reports read; numbers that are not finite become null.

        Only rank 0 writes. Raises: DataError when it cannot be written.
        """
        if context.rank > 0:
            return
        from wavslm_core.machine.files import write_json
        from wavslm_core.parts.estimates import json_value

        write_json(self.results_file(context), json_value(results))

    def results_file(self, context: StageContext) -> Path:
        """Return where `write_results` writes."""
        return context.run_dir / RESULTS_DIR / f"{self.name_in(context)}.json"

    def left_results(self, context: StageContext) -> bool:
        """Return whether what this stage leaves is still there; a finished stage runs again if not."""
        return all(context.place(path).exists() for path in self.config.leaves() or ())

    def plan(self, recipe: RecipeView) -> dict[str, Any]:
        """Return what `--dry-run` prints for this stage: name → number or text. Imports nothing heavy."""
        return {}


class TrainingStage(Stage[TrainingConfigT], Generic[TrainingConfigT, Model]):
    """One that trains: builds a model, makes a task of it, lets the loop train it, and leaves it.

    A stage that trains in another way what this one builds and leaves overrides `make_task` alone.
    """

    @abstractmethod
    def build_model(self, context: StageContext) -> Model:
        """Return what to train, as it is before the first step, on the stage's device."""

    @abstractmethod
    def make_task(self, model: Model, context: StageContext) -> Task:
        """Return what the loop trains: losses, validation, and who plays; its modules are the model's."""

    @abstractmethod
    def leave(self, model: Model, state: TrainState, context: StageContext) -> Mapping[str, Any]:
        """Write the trained model to its place; return what results say of it. Called in rank 0 alone."""

    def run(self, context: StageContext) -> None:
        from wavslm_core.training.device import PeakMemory, seed_torch
        from wavslm_core.training.loop import fit

        memory = PeakMemory(context.device)
        model = self.build_model(context)
        # For weights that the task brings along, such as those of a discriminator.
        seed_torch(self.config.seed_in(context), "task", self.config.registered_name())
        task = self.make_task(model, context)
        state = fit(task, self.config, context, stage=self.name_in(context))
        if context.rank == 0:
            left = self.leave(model, state, context)
            task.leave()
            about = {"peak_memory_bytes": memory.bytes()}
            self.write_results(context, {**left, **state.results(), **task.about(), **about})
        context.processes.barrier()
