"""When a trial is so far behind others that it is not worth its remaining steps.

The training loop asks after each validation. Trials meet at the steps of these, as in asynchronous successive
halving (Li et al. 2020): each is compared with all that have come as far, whether they run, are finished or
were stopped there.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from wavslm_core.machine.files import write_json
from wavslm_core.machine.json_files import parse_json
from wavslm_core.machine.regular_files import read_regular
from wavslm_core.parts.estimates import json_value
from wavslm_core.recipe.sweep_block import Prune
from wavslm_core.run.folder import saved_recipe
from wavslm_core.run.records import PRUNE_FILE, PRUNED_FILE, spare
from wavslm_core.sweep.folder import SweepFolder, TrialEntry
from wavslm_core.sweep.metric import Curve, best_until, validation_curve
from wavslm_core.sweep.space import validation_stage
from wavslm_core.sweep.study import SweepStudy

logger = logging.getLogger(__name__)


def may_be_pruned(sweep: SweepFolder, entry: TrialEntry, run_dir: Path) -> None:
    """Let a trial's run be compared with the others when its sweep prunes, and with none otherwise."""
    if not sweep.prunes(entry):
        spare(run_dir)
    else:
        write_json(run_dir / PRUNE_FILE, {"sweep": sweep.path.name, "trial": entry.number})


class _Place(TypedDict):
    """What `prune.json` holds: the name of a sweep's folder, and the number of a trial."""

    sweep: str
    trial: int


class Pruning:
    """Answers whether the run in a folder is to be stopped; `False` for one that no sweep prunes."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def __call__(self, stage: str, step: int, valid: Mapping[str, float]) -> bool:
        """Judge a validation of a stage, whose scalars are `valid`; leave a note when it is the last."""
        path = self.run_dir / PRUNE_FILE
        if not path.exists():
            return False
        try:
            place = parse_json(read_regular(path), _Place)
            sweep = SweepFolder.open(self.run_dir.parent / place["sweep"])
            behind = self._judge(sweep, place["trial"], stage, step, valid)
        except Exception as error:
            # Training on costs time; stopping for a file server's bad minute, or for whatever optuna makes of
            # one in its journal, would cost the trial.
            logger.warning("this trial is not compared with the others of its sweep: %s", error)
            return False
        if behind:
            note = {"stage": stage, "step": step, "valid": dict(valid)}
            write_json(self.run_dir / PRUNED_FILE, json_value(note))
        return behind

    def _judge(
        self, sweep: SweepFolder, number: int, stage: str, step: int, valid: Mapping[str, float]
    ) -> bool:
        metric, rule, entry = sweep.sweep.metric, sweep.sweep.prune, sweep.entry(number)
        recipe = saved_recipe(self.run_dir, registry=sweep.recipe.registry)
        if metric is None or metric.validation is None or rule is None or entry is None:
            return False
        scalar = metric.validation[1]
        config: Any = dict(recipe.named_stages()).get(stage)
        if config is None or stage != validation_stage(metric, recipe) or scalar not in valid:
            return False
        value = valid[scalar]
        if sweep.sweep.sampler == "optuna":
            # The last step is reported too, though nothing is left to stop then.
            return SweepStudy(sweep).is_pruned(entry, step, value) and step < config.steps
        others = [
            validation_curve(sweep.path.parent / other.run, stage, scalar)
            for other in sweep.entries()
            if other.run is not None and other.number != number
        ]
        ours = [*validation_curve(self.run_dir, stage, scalar), (step, value)]
        return is_behind(ours, others, step=step, steps=config.steps, lower=metric.lower_is_better, rule=rule)


def is_behind(
    ours: Curve, others: Sequence[Curve], *, step: int, steps: int, lower: bool, rule: Prune
) -> bool:
    """Tell whether a trial whose validations are `ours`, the last one at `step` of `steps`, is to be stopped.

    A trial without a finite loss so far is behind any that has one. `lower`: lower values are better.
    """
    if step < rule.first_step(steps) or step >= steps:
        return False
    mine = best_until(ours, step, lower=lower)
    there = [best_until(other, step, lower=lower) for other in others if other and other[-1][0] >= step]
    if len(there) + 1 < rule.min_trials:
        return False
    better = sum(_is_better(value, mine, lower=lower) for value in there)
    return better >= max(1, math.ceil(rule.keep * (len(there) + 1)))


def _is_better(value: float | None, than: float | None, *, lower: bool) -> bool:
    if value is None or than is None:
        return value is not None
    return value < than if lower else value > than
