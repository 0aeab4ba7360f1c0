"""Two players, a generator and a critic: each by its own options; what holds for one holds for both."""

from __future__ import annotations

import json
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.core.training import tiny_job
from wavslm_core.errors import CheckpointError
from wavslm_core.machine.processes import Interrupted
from wavslm_core.training.guards import TrainingError
from wavslm_core.training.task import LossOutput


def weights(task: Any) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": value.clone()
        for name, module in task.modules.items()
        for key, value in module.state_dict().items()
    }


def lines(run_dir: Path, split: str = "train") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key not in {"time", "tokens_per_s"}}
        for line in found
        if line["split"] == split
    ]


def test_both_learn_by_turns_each_by_its_own_options(tmp_path: Path) -> None:
    options = {"steps": 60, "lr": 0.02, "schedule": "cosine", "log_every": 1, "select": "last"}
    before = weights(tiny_job.TinyGan(tiny_job.TinyGanConfig(**options)))
    task, state = tiny_job.train_gan(tmp_path, **options)
    assert task.turns[:4] == [("critic", 0, 0), ("critic", 0, 1), ("generator", 0, 0), ("generator", 0, 1)]
    assert len(task.turns) == 60 * 4
    assert state.tokens == 60 * 8
    logged = lines(tmp_path)
    assert [line["critic_lr"] for line in logged[:4]] == pytest.approx([1.5e-3, 3e-3, 3e-3, 3e-3])
    assert [line["generator_lr"] for line in logged[:4]] == pytest.approx([0.02 / 3, 0.04 / 3, 0.02, 0.02])
    assert logged[-1]["generator_lr"] == 0
    assert {"critic_real", "critic_loss", "critic_gradient_norm", "generator_gradient_norm"} <= set(logged[0])
    assert all(line["loss"] == line["generator_loss"] for line in logged)
    valid = lines(tmp_path, "valid")
    assert valid[-1]["loss"] < 0.3 * valid[0]["loss"]
    assert all(not torch.equal(value, before[key]) for key, value in weights(task).items())
    assert all(parameter.requires_grad for parameter in task.critic.parameters())


def test_activation_checkpointing_trains_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    trained, passes = [], []
    for asked in (None, True):
        config = tiny_job.TinyGanConfig(steps=5, activation_checkpointing=asked)
        task = tiny_job.TinyGan(config)
        passes.append(0)

        def count(module: torch.nn.Module, given: Any) -> None:
            passes[-1] += torch.is_grad_enabled() and module.training

        # A part of a layer: the layer itself is called once.
        task.generator[1][0].register_forward_pre_hook(count)
        tiny_job.fit(task, config, tiny_job.context_for(tmp_path / str(asked)), stage="gan")
        trained.append(weights(task))
    assert all(torch.equal(value, trained[1][key]) for key, value in trained[0].items())
    assert passes[1] > passes[0] >= 5 * config.accumulate


def test_activation_checkpointing_without_layers_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_job.train(tmp_path, steps=2, activation_checkpointing=True)
    assert caplog.text.count("activation_checkpointing changes nothing") == 1


def test_what_forward_passes_move_moves_in_the_turns_of_its_own_player(tmp_path: Path) -> None:
    config = tiny_job.TinyGanConfig(steps=5)
    task = tiny_job.TinyGan(config)

    def count(module: torch.nn.Module, given: Any) -> None:
        if module.training:
            module.seen += 1

    for module in task.modules.values():
        module.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        module.register_forward_pre_hook(count)
    tiny_job.fit(task, config, tiny_job.context_for(tmp_path), stage="gan")
    passes = 5 * config.accumulate
    # The critic looks at what is real and at what is not.
    assert {name: int(module.seen) for name, module in task.modules.items()} == {
        "generator": passes,
        "critic": 2 * passes,
    }


@pytest.mark.parametrize("limit", [1e-3, None])
def test_each_is_clipped_at_its_own_limit_if_any_and_may_bring_its_optimizer(
    tmp_path: Path, limit: float | None
) -> None:
    options = {"steps": 1, "warmup_steps": 0, "clip_norm": limit, "lr": 0.5, "select": "last"}
    sgd = partial(torch.optim.SGD, lr=0.5)
    before = weights(tiny_job.TinyGan(tiny_job.TinyGanConfig(**options)))
    task, _ = tiny_job.train_gan(tmp_path, task_options={"optimizer": sgd}, log_every=1, **options)
    (line,) = lines(tmp_path)
    assert line["generator_gradient_norm"] > 1e-2
    moved = [
        (value - before[key]).square().sum()
        for key, value in weights(task).items()
        if key.startswith("generator")
    ]
    norm = line["generator_gradient_norm"] if limit is None else limit
    assert float(torch.stack(moved).sum().sqrt()) == pytest.approx(0.5 * norm, rel=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resumes_bit_equal_after_a_stop_at_any_step(tmp_path: Path, precision: str) -> None:
    train = partial(tiny_job.train_gan, precision=precision, lr=0.1, starts_at_step=5)
    whole, whole_state = train(tmp_path / "whole")
    assert [turn for turn in whole.turns if turn[0] == "critic" and turn[1] < 5] == []
    for limit in count(3):
        asked = count()
        try:
            task, state = train(
                tmp_path / "stopped", stop_requested=lambda asked=asked, limit=limit: next(asked) >= limit
            )
            break
        except Interrupted:
            pass
    assert limit > 6
    for key, value in weights(whole).items():
        assert torch.equal(value, weights(task)[key]), key
    assert (state.best_step, state.best_valid) == (whole_state.best_step, whole_state.best_valid)
    assert lines(tmp_path / "stopped") == lines(tmp_path / "whole")
    assert [name for name in lines(tmp_path / "whole")[0] if name.startswith("critic")] == []
    if precision == "bf16":
        proof = state.results()["precision"]["proof"]
        assert {row["what"] for row in proof} == {"generator", "critic", "loss"}
        named = [(row["player"], row["step"], row["what"], row["of"]) for row in proof]
        assert len(set(named)) == len(named)
        assert {name[:2] for name in named} == {
            (player, step) for player, first in {"critic": 5, "generator": 0}.items() for step in (first, 23)
        }


class HalfReached(tiny_job.TinyGan):
    """Weights of the critic are used by nobody, and some of the generator once training is half way."""

    def __init__(self, config: tiny_job.TinyGanConfig) -> None:
        super().__init__(config)
        self.critic.spare = torch.nn.Parameter(torch.zeros(4))
        self.generator.late = torch.nn.Parameter(torch.zeros(4))

    def generator_loss(self, step: int, micro_batch: int) -> LossOutput:
        output = super().generator_loss(step, micro_batch)
        if step >= self.config.steps // 2:
            output.loss = output.loss + self.generator.late.sum()
        return output


@pytest.mark.parametrize("stopped", [False, True])
def test_weights_that_no_loss_reached_are_named_once_training_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stopped: bool
) -> None:
    config = tiny_job.TinyGanConfig(steps=6)
    fit = partial(tiny_job.fit, config=config, stage="gan")
    if stopped:
        asked = count()
        context = tiny_job.context_for(tmp_path, stop_requested=lambda: next(asked) == 5)
        with pytest.raises(Interrupted):
            fit(HalfReached(config), context=context)
        assert caplog.messages == []
    fit(HalfReached(config), context=tiny_job.context_for(tmp_path))
    assert caplog.messages == [
        "player 'critic': 1 of 5 weights got no gradient in any step, such as critic.spare: the loss does "
        "not depend on them. Let it, or freeze them with `requires_grad_(False)`"
    ]


def test_the_guard_names_who_is_not_finite_and_lets_the_other_go_on(tmp_path: Path) -> None:
    bad = {"not_finite": tuple(range(5, 20))}
    once, state = tiny_job.train_gan(tmp_path / "once", steps=8, task_options=bad, select="last")
    assert state.skipped == 3
    five, _ = tiny_job.train_gan(tmp_path / "five", steps=5, schedule="constant", task_options=bad)
    assert not torch.equal(once.generator[0][0].weight, five.generator[0][0].weight)
    assert all(torch.isfinite(value).all() for value in weights(once).values())
    with pytest.raises(TrainingError, match=r"the loss of critic was not .* step 15 .*examples of 14"):
        tiny_job.train_gan(tmp_path / "stuck", task_options=bad)


def test_a_checkpoint_of_other_players_is_refused(tmp_path: Path) -> None:
    tiny_job.train_gan(tmp_path, steps=4)
    path = tmp_path / "checkpoints/tiny/step-00000004.pt"
    content = torch.load(path, weights_only=True)
    assert list(content["schedule"]) == ["critic", "generator"]
    content["schedule"] = {}
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"its players are not named, not critic, generator.* Delete"):
        tiny_job.train_gan(tmp_path, steps=8)
