"""The loop learns, accumulates, selects, skips what is not finite, and stops when asked to or behind."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.core.training import tiny_job
from wavslm_core.errors import CheckpointError
from wavslm_core.machine.processes import Interrupted, Pruned
from wavslm_core.run.metrics_file import read_metrics
from wavslm_core.training.guards import TrainingError
from wavslm_core.training.loop import fit
from wavslm_core.training.task import decayed_and_undecayed

VOLATILE = {"time", "tokens_per_s"}


def weights(task: Any) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": value.clone()
        for name, module in task.modules.items()
        for key, value in module.state_dict().items()
    }


def assert_bit_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in VOLATILE} for line in lines]


def test_learns(tmp_path: Path) -> None:
    _, state = tiny_job.train(tmp_path, steps=150, validate_every=10, task_options={"dropout": 0.0})
    valid = [line["loss"] for line in metrics(tmp_path) if line["split"] == "valid"]
    assert valid[-1] < 0.3 * valid[0]
    assert state.step == 150
    assert state.tokens == 150 * 8


def test_a_picture_that_cannot_be_made_changes_no_weight_and_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole, _ = tiny_job.train(tmp_path / "whole", steps=4, show_every=1)

    def show(task: Any, tracker: Any, step: int) -> None:
        raise RuntimeError(f"no voice at step {step}")

    monkeypatch.setattr(tiny_job.TinyTask, "show", show)
    mute, state = tiny_job.train(tmp_path / "mute", steps=4, show_every=1)
    assert (state.step, state.shown_step) == (4, 4)
    assert_bit_equal(weights(whole), weights(mute))
    (record,) = caplog.records
    assert record.message == (
        "tiny does not show all of its audio and pictures: RuntimeError: no voice at step 1"
    )


def test_accumulation_equals_one_large_batch(tmp_path: Path) -> None:
    options = {"task_options": {"dropout": 0.0}, "precision": "fp32"}
    whole, _ = tiny_job.train(tmp_path / "1", accumulate=1, **options)
    parts, _ = tiny_job.train(tmp_path / "4", accumulate=4, **options)
    for key, value in weights(whole).items():
        torch.testing.assert_close(value, weights(parts)[key], rtol=1e-4, atol=1e-5)


def test_accumulation_must_divide_the_batch() -> None:
    with pytest.raises(ValidationError, match=r"batch_size is 8, which accumulate .3. does not divide"):
        tiny_job.TinyConfig(batch_size=8, accumulate=3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resumes_bit_equal_after_a_stop_at_any_step(tmp_path: Path, precision: str) -> None:
    # A rate this high makes the validation loss rise, so that the plateau has something to remember.
    whole, whole_state = tiny_job.train(tmp_path / "whole", precision=precision, lr=0.3)
    run_dir = tmp_path / "stopped"
    stops = 0
    for steps_until_stop in count(2):
        asked = count()
        try:
            task, state = tiny_job.train(
                run_dir,
                precision=precision,
                lr=0.3,
                stop_requested=lambda asked=asked, limit=steps_until_stop: next(asked) >= limit,
            )
            break
        except Interrupted:
            stops += 1
    assert stops >= 4
    assert_bit_equal(weights(whole), weights(task))
    assert (state.best_step, state.best_valid) == (whole_state.best_step, whole_state.best_valid)
    assert metrics(run_dir) == metrics(tmp_path / "whole")
    last = "checkpoints/tiny/step-00000024.pt"
    saved = [torch.load(root / last, weights_only=True) for root in (tmp_path / "whole", run_dir)]
    assert saved[0]["schedule"] == saved[1]["schedule"]
    assert saved[0]["schedule"]["factor"] < 1
    for index, entry in saved[0]["optimizer"]["state"].items():
        assert_bit_equal(entry, saved[1]["optimizer"]["state"][index])


def test_a_finished_run_trains_no_further(tmp_path: Path) -> None:
    first, _ = tiny_job.train(tmp_path)
    again, _ = tiny_job.train(tmp_path)
    assert again.seen_steps == []
    assert_bit_equal(weights(first), weights(again))


def test_selects_the_best_or_the_last(tmp_path: Path) -> None:
    options = {"steps": 24, "lr": 0.5, "schedule": "constant", "warmup_steps": 0, "validate_every": 3}
    best, best_state = tiny_job.train(tmp_path / "best", select="best", **options)
    last, last_state = tiny_job.train(tmp_path / "last", select="last", **options)
    valid = {line["step"]: line["loss"] for line in metrics(tmp_path / "best") if line["split"] == "valid"}
    assert best_state.best_step == min(valid, key=lambda step: valid[step])
    assert best_state.best_step < 24
    assert best_state.selected_step == best_state.best_step
    assert last_state.selected_step == 24
    with torch.no_grad():
        assert best.validate()["loss"] == pytest.approx(min(valid.values()), rel=2e-2)
        assert last.validate()["loss"] == pytest.approx(valid[24], rel=2e-2)


def test_falls_back_to_the_last_weights_when_the_best_are_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"steps": 24, "lr": 0.5, "schedule": "constant", "warmup_steps": 0, "validate_every": 3}
    _, state = tiny_job.train(tmp_path, **options)
    best = tmp_path / f"checkpoints/tiny/best-{state.best_step:08d}.pt"
    best.write_bytes(best.read_bytes()[:100])
    with caplog.at_level(logging.WARNING):
        _, again = tiny_job.train(tmp_path, **options)
    assert best.name in caplog.text
    assert again.selected_step == 24


def test_skips_steps_that_are_not_finite(tmp_path: Path) -> None:
    bad = (3, 4, 5, 6, 7, 8, 9, 10, 11, 14)
    task, state = tiny_job.train(tmp_path, task_options={"not_finite": bad}, checkpoint_every=6)
    assert state.skipped == len(bad)
    assert all(torch.isfinite(value).all() for value in weights(task).values())
    assert metrics(tmp_path)[-1]["split"] == "valid"
    train_lines = [line for line in metrics(tmp_path) if line["split"] == "train"]
    assert train_lines[-1]["skipped_steps"] == len(bad)
    assert [line["loss"] is None for line in train_lines[:4]] == [False, True, True, True]


def test_ten_in_a_row_stop_with_the_batch_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"10 steps in a row.*step 15.*examples of 14.*Lower `lr`"):
        tiny_job.train(tmp_path, task_options={"not_finite": tuple(range(5, 20))})
    kept = torch.load(tmp_path / "checkpoints/tiny/step-00000012.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in kept["modules"]["net"].values())


def test_the_row_of_skipped_steps_outlives_a_restart(tmp_path: Path) -> None:
    bad = {"not_finite": tuple(range(5, 20))}
    asked = count()
    with pytest.raises(Interrupted):
        tiny_job.train(tmp_path, task_options=bad, stop_requested=lambda: next(asked) >= 10)
    with pytest.raises(TrainingError, match="step 15"):
        tiny_job.train(tmp_path, task_options=bad)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    tiny_job.train(tmp_path, steps=4)
    path = tmp_path / "checkpoints/tiny/step-00000004.pt"
    content = torch.load(path, weights_only=True)
    content["modules"]["net"].pop("0.weight")
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"net in the checkpoint.*1 missing .0\.weight"):
        tiny_job.train(tmp_path, steps=8)


def test_vectors_are_not_decayed() -> None:
    module = torch.nn.Module()
    module.matrix = torch.nn.Parameter(torch.zeros(4, 5))
    module.kernel = torch.nn.Parameter(torch.zeros(4, 1, 7))
    module.bias = torch.nn.Parameter(torch.zeros(4))
    module.scale = torch.nn.Parameter(torch.zeros(4, 1))
    module.gate = torch.nn.Parameter(torch.zeros(()))
    module.frozen = torch.nn.Parameter(torch.zeros(4, 5), requires_grad=False)
    decayed, undecayed = decayed_and_undecayed([module, module])
    assert [id(p) for p in decayed["params"]] == [id(module.matrix), id(module.kernel)]
    assert [id(p) for p in undecayed["params"]] == [id(module.bias), id(module.scale), id(module.gate)]
    assert undecayed["weight_decay"] == 0.0


def test_micro_batches_count_by_what_their_means_are_over(tmp_path: Path) -> None:
    trained = []
    for accumulate in (1, 2):
        config = tiny_job.TinyConfig(steps=20, batch_size=4, accumulate=accumulate)
        task = tiny_job.UnevenTask(config, dropout=0.0)
        tiny_job.fit(task, config, tiny_job.context_for(tmp_path / str(accumulate)), stage=tiny_job.STAGE)
        trained.append([*task.net.parameters(), *task.scale.parameters()])
    for at_once, in_parts in zip(*trained, strict=True):
        assert torch.allclose(at_once, in_parts, atol=1e-5)


def test_one_that_is_behind_leaves_after_a_validation_and_goes_on_if_asked(tmp_path: Path) -> None:
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
    assert_bit_equal(weights(whole), weights(resumed))
