"""Schedules against values worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from wavslm_core.training.config import TrainingConfig
from wavslm_core.training.optimizers import build_optimizer, set_learning_rate
from wavslm_core.training.schedules import build_schedule


class Config(TrainingConfig):
    run: str = "schedules"


def test_cosine_warms_up_and_comes_down() -> None:
    schedule = build_schedule(
        Config(steps=105, schedule="cosine", warmup_steps=4, min_lr_ratio=0.1), steps=105
    )
    assert [schedule.factor(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert schedule.factor(4) == 1.0
    assert schedule.factor(54) == pytest.approx(0.55)
    assert schedule.factor(104) == pytest.approx(0.1)
    factors = [schedule.factor(step) for step in range(4, 105)]
    assert factors == sorted(factors, reverse=True)


def test_exponential_falls_by_equal_factors_to_what_is_to_be_left() -> None:
    options = {"schedule": "exponential", "warmup_steps": 2, "min_lr_ratio": 0.25}
    schedule = build_schedule(Config(steps=7, **options), steps=7)
    halves = [schedule.factor(step) for step in (2, 4, 6)]
    assert [schedule.factor(0), *halves] == pytest.approx([0.5, 1.0, 0.5, 0.25])
    with pytest.raises(ValidationError, match="falls to min_lr_ratio, which is 0: give what is to be left"):
        Config(steps=7, schedule="exponential")


def test_plateau_anneals_when_the_relative_gain_is_small() -> None:
    schedule = build_schedule(Config(steps=100, schedule="plateau"), steps=100)
    factors = []
    # Gains: none to compare with, 50 %, 0.24 %, 0.26 %, a loss that rises, one that is not a number.
    for loss in (4.0, 2.0, 1.9952, 1.99, 2.5, math.nan):
        schedule.observe(loss)
        factors.append(schedule.factor(50))
    assert factors == pytest.approx([1, 1, 0.9, 0.9, 0.81, 0.729])


def test_plateau_state_survives() -> None:
    first = build_schedule(Config(steps=100, schedule="plateau"), steps=100)
    for loss in (4.0, 4.0):
        first.observe(loss)
    second = build_schedule(Config(steps=100, schedule="plateau"), steps=100)
    second.load_state_dict(first.state_dict())
    for schedule in (first, second):
        schedule.observe(3.999)
    assert first.factor(9) == second.factor(9) == pytest.approx(0.81)


def test_constant_is_the_peak() -> None:
    schedule = build_schedule(Config(steps=10, schedule="constant", warmup_steps=2), steps=10)
    assert [schedule.factor(step) for step in (0, 1, 2, 9)] == [0.5, 1, 1, 1]


def test_groups_keep_their_own_rate_and_decay() -> None:
    parameters = [torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2)]
    groups: list[dict[str, Any]] = [
        {"params": [parameters[0]]},
        {"params": [parameters[1]], "lr": 0.5, "weight_decay": 0.0},
    ]
    optimizer = build_optimizer(groups, Config(steps=1, lr=0.1, weight_decay=0.2))
    assert set_learning_rate(optimizer, 0.5) == pytest.approx(0.05)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.25])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0.0]
