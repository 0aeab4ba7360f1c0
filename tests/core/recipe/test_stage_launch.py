"""`launch:` blocks of stages: over the recipe's, checked with it, and no part of what a run is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wavslm_core.errors import RecipeError
from wavslm_core.recipe import Recipe
from wavslm_core.recipe.launch_block import LocalLaunch, SlurmLaunch
from wavslm_core.run.reuse import stage_identities

SLURM = {"on": "slurm", "gpus_per_node": 4, "setup": ["module load cuda"]}


def document(stage_launch: Any = None, **launch: Any) -> dict[str, Any]:
    stage = {"run": "tokenize"} | ({} if stage_launch is None else {"launch": stage_launch})
    return {"name": "one", "stages": [stage, {"run": "report"}], "launch": {**SLURM, **launch}}


def test_a_stage_changes_what_it_names() -> None:
    recipe = Recipe.from_dict(document({"gpus_per_node": 0, "array": 8, "partition": "cpu"}))
    own, other = (recipe.launch_for(stage) for stage in recipe.stages)
    assert isinstance(own, SlurmLaunch)
    assert (own.gpus_per_node, own.array, own.partition, own.setup) == (0, 8, "cpu", ("module load cuda",))
    assert other == recipe.launch


def test_where_a_run_happens_is_no_part_of_it() -> None:
    plain, own = Recipe.from_dict(document()), Recipe.from_dict(document({"array": 8}, timeout_min=5))
    assert own.digest() == plain.digest()
    assert own.to_dict()["stages"][0]["launch"] == {"array": 8}
    assert "launch" not in plain.to_dict()["stages"][0]
    assert stage_identities(own) == stage_identities(plain)
    assert Recipe.from_dict(own.to_dict()).launch_for(own.stages[0]) == own.launch_for(own.stages[0])


@pytest.mark.parametrize(
    ("launch", "said"),
    [
        (
            {"gpu_per_node": 3},
            "stages.0.tokenize.launch.gpu_per_node: unknown option. Did you mean 'gpus_per_node'",
        ),
        ({"on": "local"}, "stages.0.tokenize.launch.on: the whole recipe is launched by one launcher"),
        ({"timeout_min": 0}, "stages.0.tokenize.launch.timeout_min: given 0; it should be greater than 0"),
        (
            {"timeout_min": 3},
            "stages.0.tokenize.launch: timeout_min is 3, but a job is told to save signal_delay_s (120 s) "
            "before its end and up to 60 s earlier, so it would get nowhere. Give it at least 4 minutes",
        ),
        ({"extra": {"mem": 3}}, "stages.0.tokenize.launch.extra: 'mem' has a field of its own: memory_gb"),
    ],
)
def test_problems_name_stage_and_field(launch: Any, said: str) -> None:
    with pytest.raises(RecipeError) as raised:
        Recipe.from_dict(document(launch))
    assert said in str(raised.value)


def test_only_work_that_divides_is_shared() -> None:
    with pytest.raises(RecipeError, match=r"launch.array: belongs into the `launch:` block of a stage"):
        Recipe.from_dict(document(array=3))
    wrong = document()
    wrong["stages"][1]["launch"] = {"array": 3}
    with pytest.raises(
        RecipeError, match=r"stages.1.report.launch.array: the work of report does not divide"
    ):
        Recipe.from_dict(wrong)


@pytest.mark.parametrize("key", ["signal", "output", "--dependency", "kill_on_invalid_dep", "no_requeue"])
def test_what_surviving_needs_cannot_be_set(key: str) -> None:
    with pytest.raises(RecipeError, match="is set by the launcher"):
        Recipe.from_dict(document(extra={key: "x"}))


def test_another_launcher_starts_the_block_afresh(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: one\nstages: [{run: tokenize, launch: {array: 2, partition: cpu}}]\n"
        "launch: {on: slurm, gpus_per_node: 4, setup: [module load cuda]}\n"
    )
    recipe = Recipe.load(path, ["launch.on=local"])
    assert recipe.launch == LocalLaunch()
    # Of the stage's options those stay that mean something here.
    assert recipe.launch_for(recipe.stages[0]) == LocalLaunch(array=2)
    more = Recipe.load(path, ["launch.processes=2", "launch.on=local"])
    assert more.launch == LocalLaunch(processes=2)
    own = Recipe.load(path, ["stages.tokenize.launch.array=5", "launch.gpus_per_node=1"])
    assert own.launch_for(own.stages[0]).array == 5
