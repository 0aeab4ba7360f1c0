"""Stage train_codec against discriminators: who trains when, what is left, what is said when they are of no
use, and exact resume."""

from __future__ import annotations

import logging
import random
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from wavslm_core.errors import RecipeError
from wavslm_core.model.discriminators import Discriminators
from wavslm_core.recipe.checks import check
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import ResolvedRecipe
from wavslm_core.recipe.plan import make_plan
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.context import StageContext
from wavslm_core.run.metrics_file import read_metrics
from wavslm_core.stages.train_codec import TrainCodec, TrainCodecConfig
from wavslm_core.testing.fake_configs import FakeDiscriminatorConfig
from wavslm_core.testing.fakes import fake_codec
from wavslm_core.training import guards
from wavslm_core.training.adversarial import Adversary
from wavslm_core.training.codec_task import CodecTask
from wavslm_core.training.guards import TrainingError
from wavslm_core.training.task import LossOutput

FAKES = [{"name": "fake", "channels": 4}, {"name": "fake", "channels": 6}]
OPTIONS: dict[str, Any] = {
    "run": "train_codec",
    "steps": 12,
    "batch_size": 4,
    "lr": 5e-3,
    "crop_seconds": 0.25,
    "validate_every": 100,
    "checkpoint_every": 4,
    "keep_checkpoints": 5,
    "log_every": 1,
    "show_every": 100,
    "valid_utterances": 2,
    "spectral_windows": [256],
    "precision": "fp32",
}


class Killed(Exception):
    """What ends a process without a word."""


@pytest.fixture
def context(recipe: ResolvedRecipe, tmp_path: Path) -> StageContext:
    return StageContext(recipe=recipe, run_dir=tmp_path / "run", stage_name="train_codec")


def config_of(options: dict[str, Any], adversarial: dict[str, Any]) -> TrainCodecConfig:
    return TrainCodecConfig(**OPTIONS | options | {"adversarial": {"discriminators": FAKES, **adversarial}})


def train(context: StageContext, *, adversarial: Any = None, **options: Any) -> None:
    TrainCodec(config_of(options, adversarial or {})).run(context)


def lines(context: StageContext) -> list[dict[str, Any]]:
    return [line for line in read_metrics(context.run_dir / "metrics.jsonl") if line["split"] == "train"]


def checkpoint(context: StageContext, step: int) -> dict[str, Tensor]:
    """Return every tensor of a checkpoint by where it is."""
    content = torch.load(
        context.run_dir / f"checkpoints/train_codec/step-{step:08d}.pt", weights_only=True, map_location="cpu"
    )
    found: dict[str, Tensor] = {}

    def collect(value: Any, place: str) -> None:
        if isinstance(value, Tensor):
            found[place] = value
        elif isinstance(value, dict):
            for key, inner in value.items():
                collect(inner, f"{place}.{key}")

    collect({key: content[key] for key in ("modules", "optimizer")}, "")
    return found


def test_both_train_from_the_step_on_that_is_asked_for(context: StageContext) -> None:
    train(context, adversarial={"starts_at_step": 5})
    early, late = lines(context)[4], lines(context)[5]
    added = {"codec_adversarial", "codec_feature_matching", "discriminators_loss", "discriminators_lr"}
    added |= {f"discriminators_{name}" for name in ("loss_of_each", "real_accuracy", "fake_accuracy")}
    assert not added & early.keys()
    assert added <= late.keys()
    assert late["discriminators_loss"] == pytest.approx(2 * late["discriminators_loss_of_each"], rel=1e-6)
    assert late["loss"] == late["codec_loss"]
    terms = late["codec_spectral"] + late["codec_adversarial"] + 54 * late["codec_feature_matching"]
    assert late["codec_loss"] == pytest.approx(terms, rel=1e-5)
    moved = checkpoint(context, 4), checkpoint(context, 12)
    (first, last) = ({key: value for key, value in one.items() if "discriminators" in key} for one in moved)
    assert all(not torch.equal(last[key], first[key]) for key in first)
    assert any(key.endswith("_u") for key in first)


def test_before_them_it_trains_as_without(context: StageContext, tmp_path: Path) -> None:
    train(context, steps=6, adversarial={"starts_at_step": 5}, schedule="constant")
    alone = replace(context, run_dir=tmp_path / "alone")
    TrainCodec(TrainCodecConfig(**OPTIONS | {"steps": 6, "schedule": "constant"})).run(alone)
    ours, theirs = lines(context), lines(alone)
    assert [line["loss"] for line in ours[:5]] == [line["loss"] for line in theirs[:5]]
    assert ours[5]["loss"] != theirs[5]["loss"]


def test_discriminators_are_left_beside_the_codec_and_given_to_later_stages(context: StageContext) -> None:
    short = {**OPTIONS, "steps": 3}
    options: dict[str, Any] = {
        "train_codec": {"discriminators": FAKES},
        "train_codec_2": {"discriminators": FAKES[:1], "lr": 1e-12},
        "train_codec_3": {"lr": 1e-12},
        "train_codec_4": {"init": "train_codec", "lr": 1e-12},
    }
    stages = [{**short, "adversarial": adversarial} for adversarial in options.values()]
    recipe = check(recipe_from_dict({**context.recipe.to_dict(), "stages": stages}))
    for name, config in recipe.named_stages():
        assert isinstance(config, TrainCodecConfig)
        stage = TrainCodec(config)
        here = replace(context, recipe=recipe, stage_name=name)
        stage.run(here)
        assert stage.left_results(here)
    left = {
        name: Discriminators.load(context.run_dir / ("" if name == "train_codec_4" else name))
        for name in options
    }
    assert [len(one.configs) for one in left.values()] == [2, 1, 1, 2]
    for first, then in (("train_codec_2", "train_codec_3"), ("train_codec", "train_codec_4")):
        start = dict(left[first].named_parameters())
        for key, weight in left[then].named_parameters():
            assert torch.allclose(weight, start[key], rtol=0, atol=1e-9), key
    new = [next(left[name].parameters()) for name in ("train_codec", "train_codec_2")]
    assert not torch.equal(*new)
    plans = make_plan(recipe).stages
    assert plans[2].details["starts from"] == "train_codec_2/codec"
    assert plans[1].details["against"] == "fake, from step 0 on"
    assert plans[2].details["against"] == "those in discriminators, from step 0 on"
    weights = sum(weight.numel() for weight in left["train_codec_2"].parameters())
    assert plans[1].state_bytes - plans[2].state_bytes == 16 * weights


@pytest.mark.parametrize(
    ("adversarial", "said"),
    [
        ({"init": "train_codec"}, r"reads train_codec/discriminators, .*let its `init` name a folder"),
        ({}, r"reads discriminators, which no earlier stage leaves: name new ones"),
        ({"init": "./nowhere"}, r"train_codec.adversarial.init: there is no folder './nowhere'"),
        ({"init": "./codec"}, r"adversarial.init: codec holds no discriminators: .* is 'wavslm-codec'"),
        (
            {"init": "./other"},
            r"in other/discriminators are fake \{channels: 3\}, but fake \{\} are asked",
        ),
    ],
)
def test_what_is_no_start_is_told_before_anything_runs(
    context: StageContext, adversarial: dict[str, Any], said: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    fake_codec().save(tmp_path / "codec")
    Discriminators.from_configs([FakeDiscriminatorConfig(channels=3)]).save("other/discriminators")
    if adversarial.get("init") == "./other":
        adversarial = {**adversarial, "discriminators": [{"name": "fake"}]}
    stages = [{**OPTIONS}, {**OPTIONS, "adversarial": adversarial}]
    with pytest.raises(RecipeError, match=said):
        check(recipe_from_dict({**context.recipe.to_dict(), "stages": stages}))


def test_what_is_unset_is_not_in_a_resolved_recipe(context: StageContext) -> None:
    recipe = resolve(recipe_from_dict({**context.recipe.to_dict(), "stages": [{**OPTIONS}]}))
    assert "adversarial" not in recipe.to_dict()["stages"][0]


def test_killed_at_random_steps_it_ends_bit_equal(
    recipe: ResolvedRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adversarial = {"starts_at_step": 2, "schedule": "cosine"}
    whole = StageContext(recipe=recipe, run_dir=tmp_path / "whole", stage_name="train_codec")
    train(whole, adversarial=adversarial)

    broken = replace(whole, run_dir=tmp_path / "broken")
    generator = random.Random(1)
    kills = [2 * generator.randrange(2, 10) + turn for turn in (0, 1)]
    rebuild = CodecTask.rebuild
    for kill in kills:
        calls = count()

        def dying(task: CodecTask, step: int, micro_batch: int, kill: int = kill, calls: Any = calls) -> Any:
            if next(calls) == kill:
                raise Killed
            return rebuild(task, step, micro_batch)

        monkeypatch.setattr(CodecTask, "rebuild", dying)
        with pytest.raises(Killed):
            train(broken, adversarial=adversarial)
        monkeypatch.undo()
    train(broken, adversarial=adversarial)
    expected, found = checkpoint(whole, 12), checkpoint(broken, 12)
    assert found.keys() == expected.keys()
    assert {key for key, value in expected.items() if not torch.equal(found[key], value)} == set()
    left = [Discriminators.load(one.run_dir).state_dict() for one in (whole, broken)]
    assert all(torch.equal(value, left[1][key]) for key, value in left[0].items())


def test_discriminators_of_no_use_are_warned_of_and_end_training_then(
    context: StageContext, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "SAID_AFTER", 40)
    adversarial = {"lr": 1e-12, "collapse_steps": 20}
    with caplog.at_level(logging.WARNING), pytest.raises(TrainingError) as caught:
        train(context, adversarial=adversarial, steps=400, crop_seconds=0.08, log_every=10)
    assert "from step 10 to step 70, discriminators tell nothing apart" in str(caught.value)
    assert "Weights and checkpoints from before are kept" in str(caught.value)
    warned = [record.message for record in caplog.records if "discriminators" in record.message]
    assert len(warned) == 1
    assert "from step 10 to step 50, discriminators tell nothing apart" in warned[0]
    assert lines(context)[-1]["step"] == 70


def test_losses_of_discriminators_that_are_not_finite_are_skipped_by_the_rule_of_all(
    context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Adversary.judge

    def sick(foe: Adversary, *pair: Tensor, samples: int) -> LossOutput:
        output = judge(foe, *pair, samples=samples)
        output.loss = output.loss * torch.nan
        return output

    monkeypatch.setattr(Adversary, "judge", sick)
    train(context, steps=4)
    assert all(line["skipped_steps"] == line["step"] for line in lines(context))
    torch.manual_seed(0)
    assert all(value.isfinite().all() for value in Discriminators.load(context.run_dir).state_dict().values())
    with pytest.raises(TrainingError, match=r"the loss of discriminators was not finite in 10 steps .*@"):
        train(replace(context, run_dir=context.run_dir.with_name("more")))
