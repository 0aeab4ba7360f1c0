"""Which jobs a recipe is made of."""

from typing import Any

import pytest

from wavslm_core.launch.chain import PlannedJob, plan_jobs
from wavslm_core.parts.registry import Registry
from wavslm_core.recipe.launch_block import SlurmLaunch
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import ResolvedRecipe
from wavslm_core.recipe.resolving import resolve


def recipe(registry: Registry, *stages: Any, **launch: Any) -> ResolvedRecipe:
    document = {
        "name": "one",
        "stages": list(stages),
        "launch": {"on": "slurm", "gpus_per_node": 4, **launch},
    }
    return resolve(recipe_from_dict(document, registry=registry))


def shown(jobs: tuple[PlannedJob, ...]) -> list[tuple[str, int]]:
    return [(str(job), job.launch.gpus_per_node) for job in jobs if isinstance(job.launch, SlurmLaunch)]


@pytest.fixture
def registry(example_registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setattr(example_registry.entry("stage", "count").config_class, "divides", True)
    return example_registry


def test_stages_that_want_the_same_are_one_job(registry: Registry) -> None:
    jobs = plan_jobs(
        recipe(registry, {"run": "count"}, {"run": "learn"}, {"run": "count", "launch": {"gpus_per_node": 4}})
    )
    assert shown(jobs) == [("count, learn, count_2", 4)]


def test_other_needs_are_a_job_of_their_own(registry: Registry) -> None:
    jobs = plan_jobs(recipe(registry, {"run": "count", "launch": {"gpus_per_node": 0}}, {"run": "learn"}))
    assert shown(jobs) == [("count", 0), ("learn", 4)]


def test_the_job_after_an_array_puts_it_together(registry: Registry) -> None:
    array = {"run": "count", "launch": {"gpus_per_node": 0, "array": 3}}
    jobs = plan_jobs(recipe(registry, {"run": "learn"}, array, {"run": "learn"}, {"run": "break"}))
    assert shown(jobs) == [("learn", 4), ("count (3 tasks share it)", 0), ("count, learn_2, break", 4)]
    assert [(share.index, share.count, share.partial) for share in jobs[1].shares] == [
        (0, 3, True),
        (1, 3, True),
        (2, 3, True),
    ]
    assert [share.partial for share in jobs[2].shares] == [False]


def test_arrays_that_nothing_follows_are_put_together_by_one_task(registry: Registry) -> None:
    array = {"run": "count", "launch": {"array": 2, "nodes": 3, "tasks_per_node": 8}}
    jobs = plan_jobs(recipe(registry, array, array))
    assert [str(job) for job in jobs] == [
        "count (2 tasks share it)",
        "count",
        "count_2 (2 tasks share it)",
        "count_2",
    ]
    launch = jobs[-1].launch
    # Of four GPUs one, for `device: cuda` needs it.
    assert (launch.nodes, launch.tasks, launch.gpus_per_node) == (1, 1, 1)
    alone = {"run": "count", "launch": {"array": 2, "gpus_per_node": 0}}
    (_, last) = plan_jobs(recipe(registry, alone))
    assert last.launch.gpus_per_node == 0


def test_what_is_finished_is_no_job(registry: Registry) -> None:
    stages = ({"run": "count", "launch": {"array": 3}}, {"run": "learn"})
    jobs = plan_jobs(recipe(registry, *stages), finished=lambda name: name == "count")
    assert [str(job) for job in jobs] == ["learn"]
