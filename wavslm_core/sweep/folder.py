"""The folder of a sweep, beside those of its trials: its recipe, and which run each trial is.

`sweep.yaml`, `trials/<number>.json`, `tasks.json` of one that was submitted to SLURM, and what is made of the
results. Trials that optuna chooses get their file when they are chosen, by whichever process that is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from wavslm_core.errors import RecipeError, WavslmError
from wavslm_core.machine.files import write_json, write_text
from wavslm_core.machine.json_files import read_json
from wavslm_core.machine.slurm import JobState, job_states
from wavslm_core.parts.registry import Registry
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import Recipe
from wavslm_core.recipe.sweep_block import SweepConfig
from wavslm_core.recipe.yaml import dump_yaml, read_yaml
from wavslm_core.run.environment import describe_environment
from wavslm_core.run.folder import ENVIRONMENT_FILE, prepare_run_folder
from wavslm_core.sweep.expansion import expand_sweep, sweep_folder_name, sweep_of, trial_count
from wavslm_core.sweep.space import Trial, trial_label, validation_stage

SWEEP_FILE = "sweep.yaml"
TRIALS_FOLDER = "trials"
TASKS_FILE = "tasks.json"
"""In the sweep's folder: number of a trial → the jobs of its last submission. There are two when it first
computes what others share."""


@dataclass(frozen=True)
class TrialEntry:
    """A trial as its sweep knows it."""

    number: int
    """From 1."""
    variant: str
    settings: dict[str, Any]
    seed: int | None
    run: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None
    """Name of the run's folder; None when the chosen values make no valid recipe."""
    error: str | None = None
    """What is wrong with them then."""
    study_number: int | None = None
    """Of optuna's trial."""
    spared: bool = False
    """It was stopped for being behind, and somebody wants to see its end."""
    same_as: int | None = None
    """Number of the trial whose values optuna chose again: it runs for both."""
    measured_by: str | None = None
    """Name of the stage that measures the metric while it trains; None in folders of older versions, too."""

    @property
    def label(self) -> str:
        return trial_label(self.variant, self.seed)


@dataclass(frozen=True)
class SweepFolder:
    """A sweep on disk."""

    path: Path
    sweep: SweepConfig
    """The `sweep:` block."""
    load: Callable[[], Recipe] = field(repr=False, compare=False)

    @classmethod
    def of(cls, recipe: Recipe, runs_dir: Path) -> tuple[SweepFolder, tuple[Trial, ...]]:
        """Return a recipe's sweep and its checked trials; writes nothing. Raises: RecipeError."""
        trials = expand_sweep(recipe, runs_dir=runs_dir)
        return cls(runs_dir / sweep_folder_name(recipe, trials), sweep_of(recipe), lambda: recipe), trials

    @classmethod
    def open(cls, path: Path, *, registry: Registry | None = None) -> SweepFolder:
        """Read a sweep's folder. Raises: RecipeError when it is none."""
        if not (path / SWEEP_FILE).exists():
            raise RecipeError(
                f"{path} is no sweep: it has no {SWEEP_FILE}. Give the folder that wavslm-run printed, or "
                "the recipe."
            )
        document = read_yaml(path / SWEEP_FILE)

        def load() -> Recipe:
            return recipe_from_dict(document, source=str(path / SWEEP_FILE), registry=registry)

        try:
            sweep = SweepConfig.model_validate(document.get("sweep"))
        except ValidationError:
            # Says what is wrong in words.
            sweep = sweep_of(load())
        return cls(path, sweep, load)

    @cached_property
    def recipe(self) -> Recipe:
        """With its `sweep:` block; only looking at trials does without it, and without plugins."""
        return self.load()

    @cached_property
    def count(self) -> int:
        """How many trials there will be."""
        return trial_count(self.sweep)

    def prepare(self, trials: tuple[Trial, ...]) -> None:
        """Write the recipe and the runs of all trials that are known. Raises: WavslmError."""
        environment = describe_environment()
        write_json(self.path / ENVIRONMENT_FILE, environment)
        write_text(self.path / SWEEP_FILE, dump_yaml(self.recipe.unvalidated()))
        for number, trial in enumerate(trials, start=1):
            self.add(number, trial, environment=environment)

    def add(
        self,
        number: int,
        trial: Trial,
        *,
        study_number: int | None = None,
        same_as: int | None = None,
        environment: Mapping[str, Any] | None = None,
    ) -> TrialEntry:
        """Make a trial's run folder and take note of it. Raises: WavslmError."""
        folder = prepare_run_folder(trial.recipe, self.path.parent, environment=environment)
        before, metric = None, self.sweep.metric
        with suppress(WavslmError):
            # A damaged one is written anew.
            before = self.entry(number)
        entry = TrialEntry(
            number,
            trial.variant,
            dict(trial.settings),
            trial.seed,
            folder.name,
            study_number=study_number,
            spared=before is not None and before.run == folder.name and before.spared,
            same_as=same_as,
            measured_by=None if metric is None else validation_stage(metric, trial.recipe),
        )
        self.write(entry)
        return entry

    def write(self, entry: TrialEntry) -> None:
        write_json(self._file(entry.number), asdict(entry))

    def entries(self) -> list[TrialEntry]:
        """Return the trials that are known by now, in order."""
        found = (self.entry(number) for number in range(1, self.count + 1))
        return [entry for entry in found if entry is not None]

    def entry(self, number: int) -> TrialEntry | None:
        """Return a trial, or None when its values are not chosen yet. Raises: WavslmError when damaged."""
        try:
            return read_json(
                self._file(number),
                TrialEntry,
                remedy="The command that started the sweep writes it anew and keeps what its run has; of a "
                "trial that optuna chose, delete it first.",
            )
        except FileNotFoundError:
            return None

    def run_dir(self, entry: TrialEntry) -> Path | None:
        """Return where a trial runs."""
        return None if entry.run is None else self.path.parent / entry.run

    def prunes(self, entry: TrialEntry) -> bool:
        """Tell whether a trial is stopped for being behind, and stays stopped."""
        return self.sweep.prune is not None and not entry.spared

    def _file(self, number: int) -> Path:
        return self.path / TRIALS_FOLDER / f"{number}.json"


def trial_jobs(sweep: SweepFolder) -> dict[int, list[JobState]]:
    """Return number of a trial → what SLURM knows of its jobs. Raises: WavslmError without an answer."""
    tasks = trial_tasks(sweep)
    states = job_states(job_id for job_ids in tasks.values() for job_id in job_ids)
    found = {number: [states[one] for one in job_ids if one in states] for number, job_ids in tasks.items()}
    return {number: jobs for number, jobs in found.items() if jobs}


def note_tasks(sweep: SweepFolder, tasks: Mapping[int, Sequence[str]]) -> None:
    """Take note of all jobs that were submitted for trials, instead of earlier ones. Raises: WavslmError."""
    known = {**trial_tasks(sweep), **tasks}
    document = {str(number): list(job_ids) for number, job_ids in sorted(known.items())}
    write_json(sweep.path / TASKS_FILE, document)


def trial_tasks(sweep: SweepFolder) -> dict[int, list[str]]:
    """Return number of a trial → ids of its jobs. Raises: WavslmError when the record is damaged."""
    path = sweep.path / TASKS_FILE
    try:
        remedy = "Delete it once no job of this sweep is queued or running."
        return read_json(path, dict[int, list[str]], remedy=remedy)
    except FileNotFoundError:
        return {}
