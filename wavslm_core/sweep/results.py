"""What a sweep came to by now: read from its trials' folders, ranked, compared and written down."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from wavslm_core.errors import WavslmError
from wavslm_core.recipe.yaml import dump_yaml
from wavslm_core.run.run_error import first_line
from wavslm_core.run.stage_record import STAGES_FILE, StageRecord
from wavslm_core.run.state import State
from wavslm_core.sweep.comparison import Comparison, compare
from wavslm_core.sweep.folder import SweepFolder, TrialEntry
from wavslm_core.sweep.ranking import Result
from wavslm_core.sweep.study import SweepStudy
from wavslm_core.sweep.trial_state import TrialRun, read_trials, value_so_far


def read_results(sweep: SweepFolder) -> list[Result]:
    """Return every trial that is known by now; optuna hears of those that have ended."""
    if sweep.sweep.sampler == "optuna":
        # Results can be looked at where optuna is not installed.
        with suppress(WavslmError):
            SweepStudy(sweep).tell_results()
    trials = read_trials(sweep).runs
    return [_result(sweep, trial, trial.entry) for trial in trials if trial.entry is not None]


def write_results(sweep: SweepFolder, results: list[Result]) -> Comparison:
    """Compare trials and write report, table, pictures and TensorBoard's HParams. Raises: DataError."""
    from wavslm_core.sweep.page import write_comparison

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


def _result(sweep: SweepFolder, trial: TrialRun, entry: TrialEntry) -> Result:
    run_dir = sweep.run_dir(entry)
    value, error = None, trial.error
    try:
        value = value_so_far(sweep, trial)
    except Exception as damage:
        # Whatever is wrong with one trial, others are to be compared.
        error = error or first_line(damage)
    return Result(
        variant=entry.variant,
        settings=entry.settings,
        seed=entry.seed,
        folder=sweep.path.parent / "none" if run_dir is None else run_dir,
        status=trial.state,
        error=error or None,
        adopted=None if run_dir is None or trial.state is not State.FINISHED else _adopted(run_dir),
        value=value,
    )


def _adopted(run_dir: Path) -> str | None:
    """Return which stages were taken over from where, in words."""
    taken: dict[str, list[str]] = {}
    for name, entry in StageRecord(run_dir / STAGES_FILE).entries.items():
        if "adopted_from" in entry:
            taken.setdefault(entry["adopted_from"], []).append(name)
    return "; ".join(f"{', '.join(names)} from {run}" for run, names in taken.items()) or None
