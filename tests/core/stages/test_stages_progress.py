"""Stages tell how far they are, from the first piece on."""

from __future__ import annotations

from typing import Any

import pytest

from wavslm_core.machine.progress import Reporter, reporting
from wavslm_core.run.context import StageContext
from wavslm_core.stages.evaluate import Evaluate, EvaluateConfig
from wavslm_core.stages.generate import Generate, GenerateConfig

EVALUATE = EvaluateConfig(
    metrics=("mel_distance",),
    batch_seconds=3.0,
    batch_tokens=128,
    chunk_ahead={"count": 2, "metrics": ["mel_distance"]},
)


class Kept(Reporter):
    """Keeps, of each bar, how much was done each time."""

    def __init__(self) -> None:
        super().__init__("a stage")
        self.done: dict[str, list[float]] = {}

    def tell(self, done: float, *, unit: str = "steps", **other: Any) -> None:
        self.done.setdefault(unit, []).append(done)


@pytest.mark.parametrize(
    ("stage", "units"),
    [
        (Evaluate(EVALUATE), {"s", "tokens"}),
        (Generate(GenerateConfig(prompts=2, prompt_seconds=1.0, new_seconds=0.5)), {"prompts"}),
    ],
)
def test_tells_while_working(with_model: StageContext, stage: Any, units: set[str]) -> None:
    kept = Kept()
    with reporting(kept):
        stage.run(with_model)
    assert set(kept.done) == units
    for done in kept.done.values():
        assert done[0] == 0.0
        assert len(set(done)) > 2
