"""Numbers that two stages found are compared: chance is let pass, another arithmetic is not."""

import math
from typing import Any

import pytest

from wavslm_core.evaluation.agreement import find_disagreements


def score(mean: float | None, interval: float | None = 0.02, count: int = 35) -> dict[str, Any]:
    return {"stoi": {"mean": mean, "interval": interval, "count": count}}


def trained(value: float | None, utterances: int = 16) -> dict[str, Any]:
    return {"valid": {"stoi": value, "loss": 1.0}, "valid_utterances": utterances}


def test_what_chance_explains_is_let_pass() -> None:
    assert not find_disagreements("train_codec", trained(0.776), score(0.769))
    # Sixteen utterances may well be easier ones.
    assert not find_disagreements("train_codec", trained(0.80), score(0.769))


def test_what_it_does_not_explain_is_said_with_both_numbers() -> None:
    (found,) = find_disagreements("train_codec", trained(0.776), score(0.655, 0.023))
    assert (found.trained, found.evaluated, found.stage) == (0.776, 0.655, "train_codec")
    assert "stoi was 0.776 when train_codec validated" in str(found)
    assert "wavslm doctor" in str(found)
    assert found.to_dict()["text"] == str(found)


def test_more_utterances_leave_less_to_chance() -> None:
    few = find_disagreements("train_codec", trained(0.72, 4), score(0.655, 0.08, 4))
    many = find_disagreements("train_codec", trained(0.72, 400), score(0.655, 0.008, 400))
    assert not few
    assert many


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ({}, score(0.7)),
        (trained(None), score(0.7)),
        (trained(math.nan), score(0.7)),
        (trained(0.9), score(None)),
        (trained(0.9), score(0.7, None, 1)),
        ({"valid": {"stoi": 0.9}}, score(0.7)),
    ],
)
def test_what_cannot_be_compared_is_left_out(then: dict[str, Any], now: dict[str, Any]) -> None:
    assert not find_disagreements("train_codec", then, now)
