"""Stages tell how far they are, from the first piece on."""

from __future__ import annotations

from typing import Any

import pytest

from wavslm_core.machine.pulse import Pulse, telling
from wavslm_core.run.context import StageContext
from wavslm_core.stages.evaluate import Evaluate, EvaluateConfig
from wavslm_core.stages.generate import Generate, GenerateConfig

EVALUATE = EvaluateConfig(
    metrics=("mel_distance",),
    batch_seconds=3.0,
    batch_tokens=128,
    chunk_ahead={"count": 2, "metrics": ["mel_distance"]},
)


class Beats(Pulse):
    """Keeps, of each bar, how much was done at each beat."""

    def __init__(self) -> None:
        self.done: dict[str, list[float]] = {}
        self.stages: set[str] = set()

    def beat(self, *, stage: str, done: float, unit: str = "steps", **other: Any) -> None:
        self.stages.add(stage)
        self.done.setdefault(unit, []).append(done)


@pytest.mark.parametrize(
    ("stage", "units"),
    [
        (Evaluate(EVALUATE), {"s", "tokens"}),
        (Generate(GenerateConfig(prompts=2, prompt_seconds=1.0, new_seconds=0.5)), {"prompts"}),
    ],
)
def test_beats_while_working(with_model: StageContext, stage: Any, units: set[str]) -> None:
    beats = Beats()
    with telling(beats, "a stage"):
        stage.run(with_model)
    assert beats.stages == {"a stage"}
    assert set(beats.done) == units
    for done in beats.done.values():
        assert done[0] == 0.0
        assert len(set(done)) > 2
