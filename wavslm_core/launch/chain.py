"""Which jobs a run is made of: stages in a row that want the same are one, and a stage whose work a job array
shares gets that array in front of the job that puts the parts together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wavslm_core.machine.processes import WHOLE, Share
from wavslm_core.machine.terminal import Say
from wavslm_core.recipe.launch_block import LaunchConfig, SlurmLaunch
from wavslm_core.recipe.model import ResolvedRecipe
from wavslm_core.run.folder import is_finished, saved_recipe


@dataclass(frozen=True)
class PlannedJob:
    """One job of a chain: it starts once the one before has succeeded."""

    stages: tuple[str, ...]
    launch: LaunchConfig
    """What all of its stages want."""
    array: int | None = None
    """Number of tasks that share its one stage; the next job finishes that stage."""

    @property
    def shares(self) -> tuple[Share, ...]:
        """What each task does."""
        if self.array is None:
            return (WHOLE,)
        return tuple(Share(index, self.array, partial=True) for index in range(self.array))

    def __str__(self) -> str:
        tasks = "" if self.array is None else f" ({self.array} tasks share it)"
        return ", ".join(self.stages) + tasks


def plan_jobs(
    recipe: ResolvedRecipe, *, finished: Callable[[str], bool] = lambda name: False
) -> tuple[PlannedJob, ...]:
    """Return the chain of jobs for a recipe, without those that have nothing to do any more."""
    jobs: list[PlannedJob] = []
    to_finish: PlannedJob | None = None
    for name, config in recipe.named_stages():
        if finished(name):
            continue
        launch = recipe.launch_for(config)
        alone = launch.model_copy(update={"array": None})
        if launch.array is not None:
            if to_finish is not None:
                jobs.append(to_finish)
            jobs.append(PlannedJob((name,), launch, launch.array))
            to_finish = PlannedJob((name,), _one_task(alone))
        elif to_finish is not None:
            jobs.append(PlannedJob((*to_finish.stages, name), alone))
            to_finish = None
        elif jobs and jobs[-1].launch.model_dump() == alone.model_dump():
            jobs[-1] = PlannedJob((*jobs[-1].stages, name), alone)
        else:
            jobs.append(PlannedJob((name,), alone))
    if to_finish is not None:
        jobs.append(to_finish)
    return tuple(jobs)


def jobs_left(run_dir: Path, say: Say) -> tuple[PlannedJob, ...]:
    """Return the jobs that a run folder still needs, and say which stages were finished before."""
    recipe = saved_recipe(run_dir)
    finished = {
        name: is_finished(run_dir, stages=(name,), registry=recipe.registry)
        for name, _ in recipe.named_stages()
    }
    for name, done in finished.items():
        if done:
            say(f"stage {name}: finished before, skipped")
    return plan_jobs(recipe, finished=finished.__getitem__)


def _one_task(launch: LaunchConfig) -> LaunchConfig:
    """Return what putting the parts of a stage together needs."""
    if isinstance(launch, SlurmLaunch):
        # The device stays what the stage asked for, so one GPU has to be there if any was.
        gpus = min(1, launch.gpus_per_node)
        return launch.model_copy(update={"nodes": 1, "tasks_per_node": 1, "gpus_per_node": gpus})
    return launch
