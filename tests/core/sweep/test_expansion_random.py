"""Sweeps whose values are drawn: reproducible, the same when more are asked for, and checked beforehand."""

import math
from typing import Any

import pytest
from pydantic import ValidationError

from tests.support import FAKES
from wavslm_core.errors import RecipeError
from wavslm_core.parts.registry import Registry
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import Recipe
from wavslm_core.recipe.resolving import resolve
from wavslm_core.recipe.schema import recipe_schema
from wavslm_core.recipe.sweep_axes import Distribution, share_of
from wavslm_core.sweep.expansion import expand_sweep, sweep_folder_name, sweep_of, trial_count

LEARN: dict[str, Any] = {"name": "one", **FAKES, "data": {"corpus": "tone"}, "stages": [{"run": "learn"}]}


def recipe_of(registry: Registry, sweep: Any, **blocks: Any) -> Recipe:
    return recipe_from_dict({**LEARN, **blocks, "sweep": sweep}, source="r.yaml", registry=registry)


def drawn(registry: Registry, key: str, **random: Any) -> list[Any]:
    return [trial.settings[key] for trial in expand_sweep(recipe_of(registry, {"random": random}))]


@pytest.mark.parametrize("kind", ["uniform", "log_uniform", "int_uniform", "log_int"])
def test_draws_follow_the_distribution(kind: str) -> None:
    distribution = Distribution.model_validate({kind: [2, 200]})
    values = sorted(distribution.at(share_of(0, "x", number)) for number in range(2000))
    assert 2 <= values[0] < 5
    assert 180 < values[-1] <= 200
    assert all(value == int(value) for value in values) == (kind in ("int_uniform", "log_int"))
    median = 20 if distribution.is_log else 101
    assert values[1000] == pytest.approx(median, rel=0.1)


def test_both_ends_of_whole_numbers_are_drawn() -> None:
    distribution = Distribution.model_validate({"int_uniform": [1, 3]})
    values = [distribution.at(share_of(0, "x", number)) for number in range(600)]
    assert [values.count(value) for value in (1, 2, 3)] == pytest.approx([200] * 3, rel=0.2)
    assert {distribution.at(0.0), distribution.at(math.nextafter(1.0, 0.0))} == {1, 3}


def test_more_trials_or_another_axis_change_none_that_were_there(example_registry: Registry) -> None:
    steps, dim = {"log_int": [1, 10_000]}, {"choice": [16, 32]}
    few = drawn(example_registry, "stages.learn.steps", **{"stages.learn.steps": steps}, trials=4)
    more = drawn(
        example_registry, "stages.learn.steps", **{"stages.learn.steps": steps, "encoder.dim": dim}, trials=9
    )
    assert more[:4] == few
    assert len(set(more)) == 9
    other = drawn(example_registry, "stages.learn.steps", **{"stages.learn.steps": steps}, trials=4, seed=1)
    assert set(other).isdisjoint(few)


def test_draws_are_combined_with_the_grid(example_registry: Registry) -> None:
    sweep = {
        "grid": {"head.chunk_tokens": [4, 8]},
        "random": {"stages.learn.steps": {"int_uniform": [1, 900]}, "trials": 3},
        "seeds": [0, 1],
    }
    recipe = recipe_of(example_registry, sweep)
    trials = expand_sweep(recipe)
    assert len(trials) == trial_count(sweep_of(recipe)) == 12
    steps = [trial.settings["stages.learn.steps"] for trial in trials]
    assert steps[:3] == steps[3:6] == steps[6:9]
    assert trials[0].variant == f"chunk_tokens 4, steps {steps[0]}"
    assert trials[0].recipe.to_dict()["stages"][0]["steps"] == steps[0]
    again = recipe_from_dict(resolve(recipe).to_dict(), registry=example_registry)
    assert [trial.recipe.digest() for trial in expand_sweep(again)] == [t.recipe.digest() for t in trials]


def test_choices_of_blocks_are_drawn_once_each(example_registry: Registry) -> None:
    samplers = [{"name": "warm"}, {"name": "warm", "temperature": 2.0}, {"name": "fake"}]
    values = drawn(example_registry, "sampler", sampler={"choice": samplers}, trials=3)
    assert sorted(values) == ["fake", "warm (1)", "warm (2)"]
    with pytest.raises(RecipeError, match="only 3 different sets of values came out of 400 draws"):
        drawn(example_registry, "sampler", sampler={"choice": samplers}, trials=4)


def test_a_long_list_of_problems_ends(example_registry: Registry) -> None:
    sweep = {"random": {"train.lr": {"log_uniform": [1e-5, 1e-3]}, "trials": 30}}
    with pytest.raises(RecipeError) as caught:
        expand_sweep(recipe_of(example_registry, sweep))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("override 'train.lr=")
    assert "train: no such key." in lines[0]
    assert lines[-1] == "… and 10 more such problems"


RANGE: dict[str, Any] = {"stages.learn.steps": {"int_uniform": [1, 9]}}
OPTUNA: dict[str, Any] = {"sampler": "optuna", "metric": {"path": "valid.loss"}}


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ({"random": {"seed": 1, "trials": 2}}, "random has no axes"),
        ({"random": RANGE}, "sweep.random.trials: is missing"),
        ({"random": {"head.dim": {"log_unifrom": [1, 2]}, "trials": 1}}, "Did you mean 'log_uniform'?"),
        ({"random": {"head.dim": [1, 2], "trials": 1}}, "sweep.random.head.dim: given [1, 2], but an axis"),
        ({"random": {"head.dim": {"uniform": [2, 1]}, "trials": 1}}, "uniform goes from 2 to 1"),
        (
            {"random": {"head.dim": {"log_uniform": [0, 1]}, "trials": 1}},
            "starts at 0, which has no logarithm",
        ),
        ({"random": {"head.dim": {"choice": []}, "trials": 1}}, "choice has no values"),
        ({"random": {**RANGE, "trials": 1}, "grid": {"stages.learn.steps": [1]}}, "is drawn by `random` and"),
        ({"random": {"launch.device": {"choice": ["cpu"]}, "trials": 1}}, "'launch.device' cannot be varied"),
        ({"seeds": [0], "sampler": "optuna"}, "optuna needs `random`"),
        ({"random": {**RANGE, "trials": 1}, "sampler": "optuna"}, "optuna needs a `metric`"),
        ({"random": {**RANGE, "trials": 1}, **OPTUNA, "seeds": [1]}, "optuna tries each set of values once"),
        ({"seeds": [0], "prune": {}}, "prune goes by what training measures"),
        (
            {"seeds": [0], "prune": {}, "metric": "learn.bits_per_token"},
            "prune goes by what training measures",
        ),
        ({"seeds": [0], "metric": "learn.stoi"}, "say `metric: {path: learn.stoi, goal: min}`, or max"),
        ({"seeds": [0], "metric": "learn.*"}, "means several numbers"),
        (
            {"seeds": [0], "metric": "valid.loss", "prune": {"after_steps": 1, "after_fraction": 0.1}},
            "say the same thing",
        ),
    ],
)
def test_blocks_that_make_no_sense(example_registry: Registry, sweep: Any, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_of(example_registry, sweep)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("train_lm.valid.loss", "has no train_lm stage. Those that train: learn."),
        ("lern.bits_per_token", "no stage is called 'lern'. Did you mean 'learn'?"),
    ],
)
def test_a_metric_that_no_stage_measures(example_registry: Registry, metric: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        expand_sweep(recipe_of(example_registry, {"seeds": [0, 1], "metric": metric}))
    assert said in str(caught.value)


def test_what_optuna_may_choose_is_checked_beforehand(example_registry: Registry) -> None:
    good: dict[str, Any] = {
        "grid": {"head.chunk_tokens": [4, 8]},
        "random": {"stages.learn.steps": {"log_int": [1, 9]}, "sampler.name": {"choice": ["fake", "warm"]}},
        **OPTUNA,
    }
    good["random"]["trials"] = 6
    recipe = recipe_of(example_registry, good)
    assert expand_sweep(recipe) == ()
    assert trial_count(sweep_of(recipe)) == 6
    for key, value, said in [
        ("head.chunk_tokens", [4, 0], "head.chunk_tokens=0"),
        ("sampler.name", {"choice": ["fake", "wram"]}, "Did you mean 'warm'?"),
        ("stages.learn.steps", {"uniform": [1, 2.5]}, "stages.learn.steps=2.5"),
    ]:
        block = "grid" if isinstance(value, list) else "random"
        bad = {**good, block: {**good[block], key: value}}
        with pytest.raises(RecipeError) as caught:
            expand_sweep(recipe_of(example_registry, bad))
        assert said in str(caught.value)


def test_optunas_study_goes_on_with_more_trials(example_registry: Registry) -> None:
    def folder(trials: int, high: int = 9, **more: Any) -> str:
        random = {"stages.learn.steps": {"int_uniform": [1, high]}, "trials": trials}
        return sweep_folder_name(recipe_of(example_registry, {"random": random, **OPTUNA, **more}), ())

    assert folder(3) == folder(30, max_parallel=4, compare=["learn.loss"])
    assert folder(3) != folder(3, high=10)


def test_editors_learn_the_short_forms(example_registry: Registry) -> None:
    blocks = recipe_schema(example_registry)["$defs"]
    properties = blocks["SweepConfig"]["properties"]
    assert {"type": "string"} in properties["metric"]["anyOf"]
    assert {"type": "string"} in properties["compare"]["items"]["anyOf"]
    assert blocks["RandomAxes"]["additionalProperties"] == {"$ref": "#/$defs/Distribution"}


def test_the_distribution_is_exactly_one() -> None:
    with pytest.raises(ValidationError):
        Distribution.model_validate({"uniform": [0, 1], "choice": [1]})
