"""A training run that is behind others leaves after a validation, with a checkpoint, and can go on later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest
import torch

from wavslm_core.machine.processes import Pruned
from wavslm_core.run.metrics_file import read_metrics
from wavslm_core.training.loop import fit


def test_it_leaves_after_the_validation_and_goes_on_if_asked(tmp_path: Path, tiny_job: ModuleType) -> None:
    asked: list[tuple[str, int]] = []

    def pruned(stage: str, step: int, valid: Mapping[str, float]) -> bool:
        asked.append((stage, step))
        assert set(valid) == {"loss"}
        return step == 10

    config = tiny_job.TinyConfig()
    context = tiny_job.context_for(tmp_path / "run", pruned=pruned)
    with pytest.raises(Pruned, match="tiny is behind others at step 10 of 24"):
        fit(tiny_job.TinyTask(config), config, context, stage=tiny_job.STAGE)
    assert asked == [("tiny", 5), ("tiny", 10)]
    lines = [line for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if line["split"] == "valid"]
    assert [line["step"] for line in lines] == [5, 10]
    resumed, state = tiny_job.train(tmp_path / "run")
    assert resumed.seen_steps[0] == 10
    whole, _ = tiny_job.train(tmp_path / "whole")
    assert state.step == 24
    for name, module in whole.modules.items():
        for key, weight in module.state_dict().items():
            assert torch.equal(weight, resumed.modules[name].state_dict()[key])
