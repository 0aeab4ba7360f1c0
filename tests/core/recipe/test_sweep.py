"""Sweeps before they run: what a block expands to, and how wrong ones are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wavslm_core.errors import RecipeError
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import Registry
from wavslm_core.recipe import Recipe
from wavslm_core.recipe.sweep import expand_sweep, sweep_folder_name
from wavslm_core.run.reuse import stage_identities
from wavslm_core.testing.fakes import register_fakes

PARTS: dict[str, Any] = {
    "encoder": {"name": "fake"},
    "quantizer": {"name": "fake"},
    "decoder": {"name": "fake"},
    "backbone": {"name": "fake"},
    "head": {"name": "fake"},
    "sampler": {"name": "fake"},
    "data": {"corpus": "tone"},
}


@pytest.fixture
def installed() -> Registry:
    """Core's own parts and its fakes."""
    register_fakes()
    return load_registry()


def recipe_of(registry: Registry, sweep: Any, **blocks: Any) -> Recipe:
    document = {"name": "one", **PARTS, **blocks, "sweep": sweep}
    return Recipe.from_dict(document, source="r.yaml", registry=registry)


def test_grid_times_trials_times_seeds(example_registry: Registry) -> None:
    sweep = {
        "grid": {"head.chunk_tokens": [4, 8], "sampler.name": ["fake", "warm"]},
        "trials": [{"label": "wide", "encoder": {"name": "fake", "dim": 32}}, {"label": "as it is"}],
        "seeds": [3, 5],
    }
    trials = expand_sweep(recipe_of(example_registry, sweep))
    assert len(trials) == 2 * 2 * 2 * 2
    # The first seed of everything comes before the second of anything.
    assert [trial.seed for trial in trials] == [3] * 8 + [5] * 8
    first, last = trials[0], trials[-1]
    assert first.label == "wide, chunk_tokens 4, fake, seed 3"
    assert first.settings == {"trial": "wide", "head.chunk_tokens": 4, "sampler.name": "fake"}
    assert first.recipe.to_dict()["encoder"]["dim"] == 32
    assert first.recipe.sweep is None
    assert (last.recipe.seed, last.recipe.to_dict()["head"]["chunk_tokens"]) == (5, 8)
    assert last.recipe.to_dict()["sampler"]["name"] == "warm"
    assert first.recipe.name == "one-wide-chunk_tokens-4-fake-seed-3"
    assert len({trial.recipe.run_name for trial in trials}) == 16


def test_seeds_may_go_to_one_stage(example_registry: Registry) -> None:
    sweep = {"seeds": [1, 2], "seed_key": "stages.learn.steps"}
    trials = expand_sweep(recipe_of(example_registry, sweep, stages=[{"run": "learn"}]))
    assert [trial.recipe.to_dict()["stages"][0]["steps"] for trial in trials] == [1, 2]
    assert [trial.recipe.seed for trial in trials] == [0, 0]
    assert [trial.label for trial in trials] == ["stages.learn, seed 1", "stages.learn, seed 2"]


def test_blocks_as_values_have_different_names(example_registry: Registry) -> None:
    values = [{"name": "warm"}, {"name": "warm", "temperature": 2.0}, {"name": "fake"}]
    trials = expand_sweep(recipe_of(example_registry, {"grid": {"sampler": values}}))
    assert [trial.settings["sampler"] for trial in trials] == ["warm (1)", "warm (2)", "fake"]
    assert [trial.variant for trial in trials] == ["sampler warm (1)", "sampler warm (2)", "sampler fake"]


def test_lists_as_values(installed: Registry) -> None:
    grid = {"sampler": [[{"name": "fake"}, {"name": "fake"}], {"name": "fake"}]}
    data = {"corpus": "folder", "path": "here"}
    trials = expand_sweep(recipe_of(installed, {"grid": grid}, data=data))
    assert [trial.settings["sampler"] for trial in trials] == ["fake+fake", "fake"]
    assert trials[0].recipe.to_dict()["sampler"]["name"] == "chain"


def test_bad_combinations_are_all_named_with_their_overrides(example_registry: Registry) -> None:
    # A chunk of 4 suits the backbone, one of 6 does not; the seeds do not say it twice.
    sweep = {
        "grid": {"head.chunk_tokens": [4, 6], "backbone.name": ["chunked"], "head.nme": [1]},
        "seeds": [0, 1],
    }
    with pytest.raises(RecipeError) as caught:
        recipe_of(example_registry, sweep).check()
    assert str(caught.value).count("override 'head.nme=1': head.fake.nme: no such key.") == 1
    sweep["grid"] = {"head.chunk_tokens": [4, 6], "backbone.name": ["chunked"]}
    with pytest.raises(RecipeError) as caught:
        recipe_of(example_registry, sweep).check()
    (line,) = str(caught.value).splitlines()
    assert line.startswith("r.yaml with head.chunk_tokens=6, backbone.name=chunked: head.chunk_tokens is 6")


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ({}, "nothing varies"),
        ({"seeds": [1, 1]}, "seeds has 1 twice"),
        ({"grid": {"seed": []}}, "grid.seed has no values"),
        ({"grid": {"launch.device": ["cpu"]}}, "'launch.device' cannot be varied"),
        ({"grid": {"head..x": [1]}}, "'head..x' cannot be varied"),
        ({"trials": [{"label": "a"}, {"label": "a"}]}, "trials have the label a twice"),
        ({"trials": [{"label": "a", "seed": 1}], "grid": {"seed": [2]}}, "trial 'a' sets seed, which `grid`"),
        ({"seeds": [1], "grid": {"seed": [2]}}, "seed is varied beside `seeds`"),
        ({"seeds": [1], "gird": {}}, "sweep.gird: no such key. Did you mean 'grid'?"),
        ({"trials": [{"seed": 1}]}, "sweep.trials.0.label: is missing"),
    ],
)
def test_blocks_that_make_no_sense(example_registry: Registry, sweep: Any, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_of(example_registry, sweep)
    assert said in str(caught.value)


def test_equal_trials_are_refused(example_registry: Registry) -> None:
    sweep = {"trials": [{"label": "a"}, {"label": "b", "encoder": {"name": "fake"}}]}
    with pytest.raises(RecipeError, match="the trials 'a' and 'b' are the same run"):
        expand_sweep(recipe_of(example_registry, sweep))


def test_the_folder_follows_from_the_trials_alone(example_registry: Registry) -> None:
    def folder(sweep: Any) -> str:
        recipe = recipe_of(example_registry, sweep)
        return sweep_folder_name(recipe, expand_sweep(recipe))

    assert folder({"seeds": [0, 1]}) == folder({"seeds": [1, 0], "compare": ["learn.loss"]})
    assert folder({"seeds": [0, 1]}) != folder({"seeds": [0, 2]})


def test_files_overrides_and_the_resolved_document(example_registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("name: base\nstages: [{run: count}]\nsweep: {seeds: [0]}\n")
    (tmp_path / "r.yaml").write_text(
        "extends: base.yaml\nname: r\nsweep: {grid: {stages.count.steps: [1, 2]}}\n"
    )
    recipe = Recipe.load(tmp_path / "r.yaml", ["stages.count.pause_s=0.5"], registry=example_registry)
    trials = expand_sweep(recipe)
    assert [trial.recipe.to_dict()["stages"][0]["steps"] for trial in trials] == [1, 2]
    assert {trial.recipe.to_dict()["stages"][0]["pause_s"] for trial in trials} == {0.5}
    again = Recipe.from_dict(recipe.to_dict(), registry=example_registry)
    assert [trial.recipe.digest() for trial in expand_sweep(again)] == [t.recipe.digest() for t in trials]


def identities(registry: Registry, **blocks: Any) -> list[str]:
    document = {"name": "one", **PARTS, "stages": [{"run": "count"}], **blocks}
    resolved = Recipe.from_dict(document, registry=registry).resolve()
    return [stage.digest for stage in stage_identities(resolved)]


CODEC_THEN_LM: list[dict[str, Any]] = [
    {"run": "train_codec", "steps": 1},
    {"run": "tokenize"},
    {"run": "evaluate"},
    {"run": "train_lm", "steps": 1},
]


@pytest.mark.parametrize(
    ("blocks", "in_common"),
    [
        ({}, 3),
        ({"name": "another"}, 3),
        ({"head": {"name": "fake", "chunk_tokens": 8}}, 2),
        ({"sampler": {"name": "chain", "steps": [{"name": "fake"}]}}, 2),
        ({"encoder": {"name": "fake", "dim": 32}}, 0),
        ({"seed": 1}, 0),
        ({"data": {"corpus": "folder", "path": "elsewhere"}}, 0),
        ({"stages": [*CODEC_THEN_LM[:3], {"run": "train_lm", "steps": 2}]}, 2),
        ({"stages": [*CODEC_THEN_LM[:3], {"run": "train_lm", "steps": 1, "seed": 7}]}, 2),
        ({"stages": [CODEC_THEN_LM[0], {"run": "tokenize", "shard_minutes": 1}, *CODEC_THEN_LM[2:]]}, 1),
        # What leaves nothing changes nothing after it.
        ({"stages": [*CODEC_THEN_LM[:2], CODEC_THEN_LM[3]]}, 3),
    ],
)
def test_what_two_runs_have_in_common(installed: Registry, blocks: dict[str, Any], in_common: int) -> None:
    given = {"stages": CODEC_THEN_LM, "data": {"corpus": "folder", "path": "here"}}
    ours = identities(installed, **given)
    theirs = identities(installed, **{**given, **blocks})
    assert len(ours) == 3
    equal = [a == b for a, b in zip(ours, theirs, strict=True)]
    assert equal == [place < in_common for place in range(3)]


def test_a_stage_that_does_not_say_what_it_leaves_ends_what_is_shared(example_registry: Registry) -> None:
    assert identities(example_registry, stages=[{"run": "count"}, {"run": "count"}]) == []


def test_stages_of_a_trial_share_its_job(example_registry: Registry) -> None:
    stages = [{"run": "count", "launch": {"gpus_per_node": 2}}]
    sweep = {"grid": {"stages.count.steps": [1, 2]}}
    with pytest.raises(
        RecipeError, match=r"the stage count has a `launch:` block of its own \(gpus_per_node\)"
    ):
        expand_sweep(recipe_of(example_registry, sweep, stages=stages, launch={"on": "slurm"}))
    assert len(expand_sweep(recipe_of(example_registry, sweep, stages=stages))) == 2
    stages[0]["launch"] = {"device": "cpu"}
    assert len(expand_sweep(recipe_of(example_registry, sweep, stages=stages, launch={"on": "slurm"}))) == 2
