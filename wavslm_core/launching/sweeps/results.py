"""What a sweep came to by now: read from its trials' folders, ranked, compared and written down."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from wavslm_core.errors import WavslmError
from wavslm_core.evaluation.comparison import Comparison, compare
from wavslm_core.evaluation.ranking import Result
from wavslm_core.evaluation.trial_metric import best_until, metric_curve, metric_value
from wavslm_core.launching.stage_record import STAGES_FILE, StageRecord
from wavslm_core.launching.sweeps.folder import SweepFolder, TrialEntry
from wavslm_core.launching.sweeps.jobs import sweep_jobs
from wavslm_core.launching.sweeps.study import SweepStudy
from wavslm_core.launching.sweeps.trial_state import TrialState, trial_state
from wavslm_core.recipe.yaml_files import dump_yaml


def read_results(sweep: SweepFolder) -> list[Result]:
    """Return every trial that is known by now; optuna hears of those that have ended."""
    if sweep.sweep.sampler == "optuna":
        # Results can be looked at where optuna is not installed.
        with suppress(WavslmError):
            SweepStudy(sweep).tell_results()
    jobs = sweep_jobs(sweep)
    return [_result(sweep, entry, trial_state(sweep, entry, jobs)) for entry in sweep.entries()]


def write_results(sweep: SweepFolder, results: list[Result]) -> Comparison:
    """Compare trials and write report, table, pictures and TensorBoard's HParams. Raises: DataError."""
    from wavslm_core.evaluation.report.comparison import write_comparison

    comparison = compare(results, sweep.sweep.compare, sweep.sweep.metric)
    finished = sum(result.status == "finished" for result in results)
    write_comparison(
        sweep.path,
        comparison,
        title=sweep.recipe.name,
        subtitle=f"{finished} of {sweep.count} runs",
        recipe=dump_yaml(sweep.recipe.unvalidated()),
    )
    return comparison


def value_so_far(sweep: SweepFolder, run_dir: Path, state: TrialState) -> float | None:
    """Return the metric of a trial; of one that has not finished the best validation so far."""
    metric = sweep.sweep.metric
    if metric is None or state.recipe is None:
        return None
    if state.status == "finished":
        return metric_value(run_dir, metric, state.recipe)
    curve = metric_curve(run_dir, metric, state.recipe)
    return best_until(curve, float("inf"), lower=metric.lower_is_better)


def _result(sweep: SweepFolder, entry: TrialEntry, state: TrialState) -> Result:
    run_dir = sweep.run_dir(entry)
    return Result(
        variant=entry.variant,
        settings=entry.settings,
        seed=entry.seed,
        folder=sweep.path.parent / "none" if run_dir is None else run_dir,
        status=state.status,
        error=state.error,
        adopted=None if run_dir is None or state.status != "finished" else _adopted(run_dir),
        value=None if run_dir is None else value_so_far(sweep, run_dir, state),
    )


def _adopted(run_dir: Path) -> str | None:
    """Return which stages were taken over from where, in words."""
    taken: dict[str, list[str]] = {}
    for name, entry in StageRecord(run_dir / STAGES_FILE).entries.items():
        if "adopted_from" in entry:
            taken.setdefault(entry["adopted_from"], []).append(name)
    return "; ".join(f"{', '.join(names)} from {run}" for run, names in taken.items()) or None
