"""Trials that optuna chooses, one after the other or from many processes at once.

The study is a journal in the sweep's folder: a file that processes on a shared file system append to. What a
trial came to is told to it by whoever looks next, from the run's folder; so nothing is lost when a job dies,
and the same command goes on with the study.
"""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any

from wavslm_core.errors import RecipeError, WavslmError
from wavslm_core.machine.files import open_in_place
from wavslm_core.machine.locks import one_at_a_time
from wavslm_core.recipe.sweep_axes import share_of
from wavslm_core.run.state import State
from wavslm_core.sweep.folder import SweepFolder, TrialEntry
from wavslm_core.sweep.space import Cell, SweepSpace, validation_stage
from wavslm_core.sweep.trial_state import read_trials, value_so_far

if TYPE_CHECKING:
    import optuna

JOURNAL = "optuna.journal"
CLAIM_LOCK = ".a choice.lock"
MOST_REPEATS = 10
"""How often values that another trial has are given back before its result is taken for both."""


class SweepStudy:
    """The study of a sweep. Raises: WavslmError when optuna is not installed."""

    def __init__(self, sweep: SweepFolder) -> None:
        _optuna()
        self.sweep = sweep
        self.space = SweepSpace(sweep.recipe, sweep.sweep)

    def claim(self, number: int) -> TrialEntry:
        """Return a trial, its values chosen now unless they were before. Raises: WavslmError."""
        known = self.sweep.entry(number)
        if known is not None:
            return known
        # Two that choose at once must see each other's choice; where files have no locks, both may choose
        # the same.
        with self._alone():
            self._tell_results()
            return self._choose(number)

    def _choose(self, number: int) -> TrialEntry:
        study = self.study(number)
        taken = {entry.run: entry.number for entry in self.sweep.entries() if entry.same_as is None}
        for repeat in range(MOST_REPEATS + 1):
            chosen = study.ask()
            chosen.set_user_attr("trial", number)
            point = self._suggest(chosen)
            try:
                trial = self.space.trial(point, runs_dir=self.sweep.path.parent)
            except RecipeError as error:
                return self._refuse(study, chosen.number, number, point, error)
            same_as = taken.get(trial.recipe.run_name)
            if same_as is None or repeat == MOST_REPEATS:
                return self.sweep.add(number, trial, study_number=chosen.number, same_as=same_as)
            study.tell(chosen.number, state=_states().FAIL)
        raise AssertionError("the last repeat is taken")

    def tell_results(self) -> None:
        """Tell the study how the trials ended that it does not know of."""
        with self._alone():
            self._tell_results()

    def _alone(self) -> AbstractContextManager[None]:
        """Keep others from choosing values and telling results meanwhile: optuna looks, and then writes."""
        return one_at_a_time(self.sweep.path / CLAIM_LOCK)

    def _tell_results(self) -> None:
        study = self.study(0)
        known = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
        complete = [trial for trial in known.values() if trial.state == _states().COMPLETE]
        told = {trial.user_attrs.get("trial") for trial in complete}
        for found in read_trials(self.sweep).runs:
            number = None if found.entry is None else found.entry.study_number
            trial = None if number is None else known.get(number)
            if trial is None or found.number in told:
                continue
            value = value_so_far(self.sweep, found) if found.state is State.FINISHED else None
            if found.state is State.FINISHED and value is not None:
                if trial.state.is_finished():
                    # It failed or was stopped, and was then run again.
                    study.add_trial(_completed(trial, value))
                else:
                    _tell(study, trial.number, value)
            elif found.state is State.PRUNED and not trial.state.is_finished():
                _tell(study, trial.number, state=_states().PRUNED)
            elif found.state in (State.FAILED, State.FINISHED) and not trial.state.is_finished():
                _tell(study, trial.number, state=_states().FAIL)

    def is_pruned(self, entry: TrialEntry, step: int, value: float) -> bool:
        """Report a validation of a trial; return whether optuna's pruner would stop it here."""
        optuna = _optuna()
        if entry.study_number is None:
            return False
        study = self.study(entry.number)
        frozen = study.get_trials(deepcopy=False)[entry.study_number]
        if frozen.state.is_finished():
            return False
        trial = optuna.trial.Trial(study, frozen._trial_id)
        trial.report(value, step)
        return bool(trial.should_prune())

    def study(self, number: int) -> optuna.Study:
        """Return the study as a trial sees it: the randomness of each choice follows from its number."""
        optuna = _optuna()
        sweep = self.sweep.sweep
        if sweep.random is None or sweep.metric is None:
            raise TypeError("a study needs ranges and a metric")
        pruner: Any = optuna.pruners.NopPruner()
        if sweep.prune is not None:
            rule = sweep.prune
            pruner = optuna.pruners.PercentilePruner(
                100 * rule.keep,
                n_startup_trials=rule.min_trials - 1,
                n_warmup_steps=rule.first_step(self._steps()),
            )
        self.sweep.path.mkdir(parents=True, exist_ok=True)
        # Optuna would append to whatever a link leads to.
        os.close(open_in_place(self.sweep.path / JOURNAL))
        file = optuna.storages.journal.JournalFileBackend(str(self.sweep.path / JOURNAL))
        return optuna.create_study(
            study_name=self.sweep.path.name,
            storage=optuna.storages.JournalStorage(file),
            direction="minimize" if sweep.metric.lower_is_better else "maximize",
            sampler=optuna.samplers.TPESampler(seed=int(2**31 * share_of(sweep.random.seed, "tpe", number))),
            pruner=pruner,
            load_if_exists=True,
        )

    def _steps(self) -> int:
        """Return the steps of the stage that measures the metric, where no axis varies them."""
        metric = self.sweep.sweep.metric
        stage = None if metric is None else validation_stage(metric, self.sweep.recipe)
        config: Any = dict(self.sweep.recipe.named_stages()).get(stage or "")
        return int(getattr(config, "steps", 0))

    def _suggest(self, chosen: optuna.Trial) -> dict[str, Cell]:
        """Return a value for every axis."""
        point: dict[str, Cell] = {}
        for key, cells in self.space.cells.items():
            point[key] = _pick(chosen, key, cells)
        for key, axis in self.space.drawn.items():
            if axis.choice is not None:
                cells = [self.space.cell(key, value) for value in axis.choice]
                point[key] = _pick(chosen, key, cells)
            elif axis.is_whole:
                low, high = map(int, axis.range)
                point[key] = self.space.cell(key, chosen.suggest_int(key, low, high, log=axis.is_log))
            else:
                value = chosen.suggest_float(key, *axis.range, log=axis.is_log)
                point[key] = self.space.cell(key, axis.rounded(value))
        return point

    def _refuse(
        self, study: optuna.Study, study_number: int, number: int, point: dict[str, Cell], error: RecipeError
    ) -> TrialEntry:
        """Take note of values that fit nothing; a failed trial with a reason."""
        study.tell(study_number, state=_states().FAIL)
        settings = {
            key: value if isinstance(value, (int, float)) else name for key, (name, value) in point.items()
        }
        variant = ", ".join(name for name, _ in point.values())
        line = next(iter(str(error).splitlines()))
        entry = TrialEntry(number, variant, settings, None, None, line, study_number)
        self.sweep.write(entry)
        return entry


def _pick(chosen: optuna.Trial, key: str, cells: list[Cell]) -> Cell:
    """Let optuna choose by name: values may be blocks."""
    name = chosen.suggest_categorical(key, [name for name, _ in cells])
    return next(cell for cell in cells if cell[0] == name)


def _tell(
    study: optuna.Study, number: int, value: float | None = None, state: optuna.trial.TrialState | None = None
) -> None:
    """Tell how a trial ended, unless somebody else does: without locks, after we have looked."""
    with suppress(_optuna().exceptions.UpdateFinishedTrialError):
        study.tell(number, value, state=state, skip_if_finished=True)


def _completed(trial: optuna.trial.FrozenTrial, value: float) -> optuna.trial.FrozenTrial:
    return _optuna().trial.create_trial(
        value=value,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
        intermediate_values=trial.intermediate_values,
    )


def _states() -> Any:
    return _optuna().trial.TrialState


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise WavslmError(
            f"sweep.sampler is optuna, which cannot be imported ({error}). Install it: "
            "pip install 'wavslm-core[optuna]'; or use `sampler: random`."
        ) from None
    logging.getLogger("optuna").setLevel(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
