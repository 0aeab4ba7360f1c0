"""What a sweep came to by now: a row for each trial, and the comparison that is written down."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wavslm_core.errors import WavslmError
from wavslm_core.recipe.sweep_block import SweepMetric
from wavslm_core.recipe.yaml import dump_yaml
from wavslm_core.run.state import State
from wavslm_core.sweep.folder import SweepFolder
from wavslm_core.sweep.study import SweepStudy
from wavslm_core.sweep.trial_state import Row, read_trials, row_of

if TYPE_CHECKING:
    from wavslm_core.sweep.comparison import Comparison

ORDER = (
    State.FINISHED,
    State.RUNNING,
    State.REQUEUED,
    State.QUEUED,
    State.NEW,
    State.INTERRUPTED,
    State.UNKNOWN,
    State.PRUNED,
    State.FAILED,
    State.DAMAGED,
)


@dataclass(frozen=True)
class SweepStatus:
    """A sweep at this moment."""

    rows: tuple[Row, ...]
    metric: SweepMetric | None = None
    problem: str = ""
    """Why it is not known how its jobs do; trials that seem to have stopped may wait or run then."""

    @property
    def best(self) -> Row | None:
        """The trial with the best value so far, whatever its state."""
        known = [(row.value, row) for row in self.rows if row.value is not None]
        if self.metric is None or not known:
            return None
        return (min if self.metric.lower_is_better else max)(known, key=lambda pair: pair[0])[1]

    @property
    def counts(self) -> str:
        """How many trials do what, in words."""
        counts = Counter(row.state for row in self.rows)
        return ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])

    @property
    def left(self) -> list[Row]:
        """Trials that the same command would go on with."""
        return [row for row in self.rows if not State(row.state).is_over]

    @property
    def has_ended(self) -> bool:
        """Nothing runs or waits in a queue, as far as SLURM was asked and answered."""
        return not self.left if self.problem else not any(State(row.state).lives for row in self.rows)


def sweep_status(sweep: SweepFolder) -> SweepStatus:
    """Return how a sweep does."""
    trials = read_trials(sweep)
    rows = tuple(row_of(sweep, trial) for trial in trials.runs)
    return SweepStatus(rows, sweep.sweep.metric, trials.problem)


def write_results(sweep: SweepFolder) -> Comparison:
    """Compare the trials that are known by now, and write report, table, pictures and TensorBoard's HParams.

    Optuna hears of those that have ended. Raises: DataError.
    """
    # Tables of how trials do need no numpy.
    from wavslm_core.sweep.comparison import compare
    from wavslm_core.sweep.page import write_comparison

    if sweep.sweep.sampler == "optuna":
        # Results can be looked at where optuna is not installed.
        with suppress(WavslmError):
            SweepStudy(sweep).tell_results()
    rows = [row for row in sweep_status(sweep).rows if row.variant]
    comparison = compare(rows, sweep.sweep.compare, sweep.sweep.metric)
    finished = sum(row.state == "finished" for row in rows)
    write_comparison(
        sweep.path,
        comparison,
        title=sweep.recipe.name,
        subtitle=f"{finished} of {sweep.count} runs",
        recipe=dump_yaml(sweep.recipe.unvalidated()),
    )
    return comparison
