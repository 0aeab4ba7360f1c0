"""What of a sweep can run at once: stages that several trials share are computed by one of them, before the
others start.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wavslm_core.recipe.model import ResolvedRecipe
from wavslm_core.run.folder import is_finished, saved_recipe
from wavslm_core.run.reuse import Adoption, StageIdentity, stage_identities
from wavslm_core.sweep.expansion import corner_trials
from wavslm_core.sweep.folder import SweepFolder


@dataclass(frozen=True)
class TrialTask:
    """A trial, or the first stages of one."""

    trial: int
    stages: tuple[str, ...] | None = None
    """Names of those to run; none: all."""


def plan_phases(sweep: SweepFolder, numbers: Sequence[int], adoption: Adoption) -> list[list[TrialTask]]:
    """Return what runs at once, phase after phase; the last one is the trials themselves.

    Trials that have begun nothing take over what there is already.
    """
    chains: dict[int, Sequence[StageIdentity]] = {}
    for number in numbers:
        entry = sweep.entry(number)
        run_dir = None if entry is None else sweep.run_dir(entry)
        if run_dir is None:
            continue
        recipe = saved_recipe(run_dir, registry=sweep.recipe.registry)
        adoption.adopt(recipe, run_dir)
        chains[number] = stage_identities(recipe)
    phases = shared_first(chains)
    if sweep.sweep.sampler == "optuna" and 1 in numbers:
        names = untouched_stages([trial.recipe for trial in corner_trials(sweep.recipe)])
        # Which trial it is makes no difference to these, and those that are not chosen yet need them too.
        phases = [[TrialTask(1, names)]] if names else phases
    for phase in phases:
        for task in list(phase):
            entry = sweep.entry(task.trial)
            run_dir = None if entry is None else sweep.run_dir(entry)
            if run_dir is not None and is_finished(
                run_dir, stages=task.stages, registry=sweep.recipe.registry
            ):
                phase.remove(task)
    whole = [TrialTask(number) for number in numbers]
    return [phase for phase in (*phases, whole) if phase]


def untouched_stages(recipes: Sequence[ResolvedRecipe]) -> tuple[str, ...]:
    """Return the first stages that are the same in all recipes, and still there when others are finished."""
    chains = [stage_identities(recipe) for recipe in recipes]
    count = 0
    for place, stages in enumerate(zip(*chains, strict=False), start=1):
        if len({stage.digest for stage in stages}) > 1:
            break
        if all(stage.kept for stage in stages):
            count = place
    return tuple(stage.name for stage in chains[0][:count])


def shared_first(chains: Mapping[int, Sequence[StageIdentity]]) -> list[list[TrialTask]]:
    """Return the phases that compute what trials share, each from what the one before left.

    The first trial of those that agree on some first stages runs these alone. Such leaders may again share
    still fewer stages: one codec for all, and one set of tokens for each of two ways of cutting them.
    """
    phases: list[list[TrialTask]] = []
    current = dict(chains)
    while True:
        counts = Counter(stage.digest for chain in current.values() for stage in chain if stage.kept)
        leaders: dict[str, tuple[int, Sequence[StageIdentity]]] = {}
        for number, chain in current.items():
            shared = [place for place, stage in enumerate(chain) if stage.kept and counts[stage.digest] > 1]
            if shared:
                prefix = chain[: shared[-1] + 1]
                leaders.setdefault(prefix[-1].digest, (number, prefix))
        if not leaders:
            return phases
        phases.insert(
            0, [TrialTask(trial, tuple(s.name for s in prefix)) for trial, prefix in leaders.values()]
        )
        current = dict(leaders.values())
