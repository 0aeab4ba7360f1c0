"""Stops a trial that is behind the others of its sweep: asked by the training loop after each validation."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from wavslm_core.machine.files import write_json
from wavslm_core.machine.json_files import parse_json
from wavslm_core.machine.regular_files import read_regular
from wavslm_core.parts.estimates import json_value
from wavslm_core.recipe.sweep_metric import validation_stage
from wavslm_core.run.folder import saved_recipe
from wavslm_core.run.prune_files import PRUNE_FILE, PRUNED_FILE, spare
from wavslm_core.sweep.folder import SweepFolder, TrialEntry
from wavslm_core.sweep.metric import validation_curve
from wavslm_core.sweep.pruning import is_behind

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
            # Imported late: it asks how other trials do, and so needs what runs this one.
            from wavslm_core.sweep.study import SweepStudy

            # The last step is reported too, though nothing is left to stop then.
            return SweepStudy(sweep).is_pruned(entry, step, value) and step < config.steps
        others = [
            validation_curve(sweep.path.parent / other.run, stage, scalar)
            for other in sweep.entries()
            if other.run is not None and other.number != number
        ]
        ours = [*validation_curve(self.run_dir, stage, scalar), (step, value)]
        return is_behind(ours, others, step=step, steps=config.steps, lower=metric.lower_is_better, rule=rule)
