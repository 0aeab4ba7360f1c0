"""When a trial is behind: the rule on recorded curves, and the number that ranks."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support import FAKES
from wavslm_core.parts.registry import Registry
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import Recipe
from wavslm_core.recipe.sweep_block import Prune, SweepMetric
from wavslm_core.sweep.comparison import rank
from wavslm_core.sweep.metric import Curve, metric_curve, metric_value
from wavslm_core.sweep.pruning import is_behind
from wavslm_core.sweep.space import validation_stage
from wavslm_core.sweep.trial_state import Row

# Four recorded trials, validated every 10 of 40 steps.
RECORDED: dict[str, Curve] = {
    "good": [(10, 5.0), (20, 4.0), (30, 3.5), (40, 3.4)],
    "late": [(10, 5.6), (20, 4.6), (30, 3.2), (40, 3.0)],
    "flat": [(10, 5.4), (20, 5.3), (30, 5.2), (40, 5.1)],
    "bad": [(10, 6.0), (20, 6.1), (30, 6.2), (40, 6.3)],
}


def stopped_at(
    name: str, rule: Prune, curves: Mapping[str, Curve] = RECORDED, *, lower: bool = True
) -> int | None:
    """Return the step at which a trial is stopped when the others have come to their end."""
    others = [curve for other, curve in curves.items() if other != name]
    for place, (step, _) in enumerate(curves[name], start=1):
        ours = curves[name][:place]
        if is_behind(ours, others, step=step, steps=40, lower=lower, rule=rule):
            return step
    return None


def test_the_median_of_recorded_curves() -> None:
    rule = Prune()
    assert {name: stopped_at(name, rule) for name in RECORDED} == {
        "good": None,
        "late": 10,
        "flat": 20,
        "bad": 10,
    }
    # Patience lets the late one catch up.
    assert {name: stopped_at(name, Prune(after_steps=30)) for name in RECORDED} == {
        "good": None,
        "late": None,
        "flat": 30,
        "bad": 30,
    }
    assert stopped_at("late", Prune(after_fraction=0.6)) is None
    assert stopped_at("flat", Prune(keep=0.75)) is None
    assert stopped_at("bad", Prune(keep=0.75)) == 10


def test_the_same_upside_down() -> None:
    negated = {name: [(step, -value) for step, value in curve] for name, curve in RECORDED.items()}
    for name in RECORDED:
        assert stopped_at(name, Prune(), negated, lower=False) == stopped_at(name, Prune())


def test_too_few_to_judge_and_the_last_step() -> None:
    few = {name: RECORDED[name] for name in ("good", "late", "bad")}
    assert stopped_at("bad", Prune(), few) is None
    assert stopped_at("bad", Prune(min_trials=3), few) == 10
    assert stopped_at("bad", Prune(after_steps=40)) is None


def test_only_those_that_came_as_far_count_and_stopped_ones_do() -> None:
    others: list[Curve] = [RECORDED["good"][:1], RECORDED["late"][:2], RECORDED["flat"][:2]]
    ours = RECORDED["bad"]
    assert not is_behind(ours[:2], others, step=20, steps=40, lower=True, rule=Prune())
    assert is_behind(ours[:2], others, step=20, steps=40, lower=True, rule=Prune(min_trials=3))


def test_a_loss_that_is_no_number_is_behind_any_that_is() -> None:
    curves: dict[str, Curve] = {**RECORDED, "nan": [(10, math.nan), (20, math.nan)]}
    assert stopped_at("nan", Prune(), curves) == 10
    nothing: dict[str, Curve] = {name: [(10, math.nan)] for name in RECORDED}
    assert stopped_at("bad", Prune(), nothing) is None


def learn(registry: Registry) -> Recipe:
    stages = [{"run": "learn"}, {"run": "count"}, {"run": "learn"}]
    document = {"name": "one", **FAKES, "data": {"corpus": "tone"}, "stages": stages}
    return recipe_from_dict(document, registry=registry)


def test_the_number_that_ranks(example_registry: Registry, tmp_path: Path) -> None:
    recipe = learn(example_registry)
    lines = [
        {"stage": stage, "step": step, "split": split, "loss": loss}
        for stage, step, split, loss in [
            ("learn", 1, "valid", 9.0), ("learn_2", 1, "train", 1.0), ("learn_2", 1, "valid", 4.0),
            ("learn_2", 2, "valid", 3.0), ("learn_2", 3, "valid", None), ("learn_2", 4, "valid", 3.5),
        ]
    ]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"cut')
    loss = SweepMetric(path="valid.loss")
    assert validation_stage(loss, recipe) == "learn_2"
    curve = metric_curve(tmp_path, loss, "learn_2")
    assert [step for step, _ in curve] == [1, 2, 3, 4]
    assert math.isnan(curve[2][1])
    assert metric_value(tmp_path, loss, "learn_2", keeps_best=False) == 3.5
    assert metric_value(tmp_path, loss, "learn_2", keeps_best=True) == 3.0
    first = SweepMetric(path="learn.valid.loss")
    assert metric_value(tmp_path, first, validation_stage(first, recipe), keeps_best=False) == 9.0
    assert metric_value(tmp_path / "new", loss, "learn_2", keeps_best=False) is None
    (tmp_path / "results").mkdir()
    document = {"language_model": {"bits_per_token": 8.5}, "stoi": {"mean": 0.7, "interval": 0.1}, "n": None}
    (tmp_path / "results" / "count.json").write_text(json.dumps(document))
    for path, value in (("count.language_model.bits_per_token", 8.5), ("count.stoi", 0.7), ("count.n", None)):
        metric = SweepMetric(path=path, goal="max")
        assert validation_stage(metric, recipe) is None
        assert metric_value(tmp_path, metric, None, keeps_best=False) == value


@pytest.mark.parametrize(("goal", "order"), [("min", "badcfe"), ("max", "abdcfe")])
def test_ranks(goal: str, order: str, tmp_path: Path) -> None:
    values = {"d": (None, "finished"), "c": (0.1, "pruned"), "a": (2.0, "finished"), "b": (1.0, "finished"),
              "e": (None, "failed"), "f": (0.5, "failed")}  # fmt: skip
    results = [Row(name, {}, None, tmp_path, status, value=value) for name, (value, status) in values.items()]
    ranked = rank(results, SweepMetric.model_validate({"path": "x.y", "goal": goal}))
    assert "".join(result.variant for result in ranked) == order
    assert [result.variant for result in rank(results, None)] == ["d", "a", "b", "c", "e", "f"]
