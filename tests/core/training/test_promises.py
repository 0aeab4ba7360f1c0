"""A task that keeps no promise is told which, by its own name and that of the player."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.core.training import tiny_job
from wavslm_core.training.config import OptimizerConfig
from wavslm_core.training.guards import TrainingError
from wavslm_core.training.promises import players_of
from wavslm_core.training.task import LossOutput, Player


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda net, critic: [], r"TinyGan.players\(\) names nobody: return at least one"),
        (
            lambda net, critic: [Player("", *net), Player("critic", *critic)],
            r"\['', 'critic'\]: several need",
        ),
        (lambda net, critic: [Player("a", *net), Player("a", *critic)], r"called \['a', 'a'\]"),
        (lambda net, critic: [Player("a", *net, starts_at_step=2)], "no player trains in step 0"),
        (lambda net, critic: [Player("a", *net), Player("b", *critic, starts_at_step=24)], "only 24 steps"),
        (lambda net, critic: [Player("a", *net), Player("b", *net)], "'a' and 'b' train the same weight"),
        (lambda net, critic: [Player("a", net[0], {}, net[2])], "'a' has no weights that train"),
        (
            lambda net, critic: [Player("a", net[0], {"other": torch.nn.Linear(1, 1)}, net[2])],
            "'a' trains other, but the .* are generator, critic: .*, or add it to the task's `modules`",
        ),
        (
            lambda net, critic: [Player("a", *net)],
            r"module 'critic' .* has \d+ weights that no player",
        ),
    ],
)
def test_players_that_cannot_play(change: Any, said: str) -> None:
    config = tiny_job.TinyGanConfig()
    task = tiny_job.TinyGan(config)
    net = (task.generator_loss, {"generator": task.generator}, OptimizerConfig())
    critic = (task.critic_loss, {"critic": task.critic}, OptimizerConfig())
    task.players = lambda config: change(net, critic)
    with pytest.raises(TrainingError, match=said):
        players_of(task, config)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda output: output.loss, r"its loss gave a Tensor of shape \[\]; return LossOutput\(loss, …\)"),
        (lambda output: None, "its loss gave a NoneType; return"),
        (
            lambda output: LossOutput(output.loss.expand(3)),
            r"loss is a Tensor of shape \[3\]; return a scalar",
        ),
        (lambda output: LossOutput(1.0), "its loss is a float; return a scalar"),
        (
            lambda output: LossOutput(output.loss.detach()),
            "its loss depends on none of its weights; compute it with critic",
        ),
        (lambda output: LossOutput(output.loss, {"accuracy": "high"}), "'accuracy' is a str; give a number"),
        (
            lambda output: LossOutput(output.loss, {"fine": 1, "score": torch.zeros(2, 1)}),
            r"'score' is a Tensor of shape \[2, 1\]; give a number, or a tensor of one",
        ),
    ],
)
def test_losses_that_nothing_can_be_learnt_from(change: Any, said: str, tmp_path: Path) -> None:
    class Odd(tiny_job.TinyGan):
        def critic_loss(self, step: int, micro_batch: int) -> Any:
            return change(super().critic_loss(step, micro_batch))

    config = tiny_job.TinyGanConfig()
    with pytest.raises(TrainingError, match=f"^player 'critic' of Odd: .*{said}"):
        tiny_job.fit(Odd(config), config, tiny_job.context_for(tmp_path), stage="gan")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"accuracy": 1.0}, "no `loss`, which schedules and `select` watch, is among accuracy"),
        ({"loss": 1.0, "score": torch.zeros(3)}, r"'score' is a Tensor of shape \[3\]; give a number"),
        ({"loss": "low"}, "'loss' is a str"),
        (None, "it gave a NoneType; return a dictionary"),
    ],
)
def test_validation_that_gives_no_numbers(given: Any, said: str, tmp_path: Path) -> None:
    class Odd(tiny_job.TinyTask):
        def validate(self) -> Any:
            return given

    config = tiny_job.TinyConfig()
    with pytest.raises(TrainingError, match=rf"^Odd.validate\(\): {said}"):
        tiny_job.fit(Odd(config), config, tiny_job.context_for(tmp_path), stage="tiny")


@pytest.mark.parametrize("begins", [0, 4])
def test_weights_that_a_loss_reaches_and_nobody_trains_are_named(tmp_path: Path, begins: int) -> None:
    class Judged(tiny_job.TinyTask):
        """A critic that is in nobody's modules; its input is a leaf, as that of a gradient penalty."""

        def __init__(self, config: tiny_job.TinyConfig) -> None:
            super().__init__(config)
            self.critic = tiny_job.blocks(3, 4, 1, dropout=0.0)

        def loss(self, step: int, micro_batch: int) -> LossOutput:
            output = super().loss(step, micro_batch)
            if step >= begins:
                output.loss = output.loss + self.critic(torch.ones(1, 3, requires_grad=True)).mean()
            return output

    config = tiny_job.TinyConfig(log_every=6)
    match = (
        r"^Judged: gradients of its loss reach 4 weights .* such as critic\.\d.*nobody trains or saves them"
    )
    with pytest.raises(TrainingError, match=match):
        tiny_job.fit(Judged(config), config, tiny_job.context_for(tmp_path / "judged"), stage="tiny")
    task = Judged(config)
    task.critic.requires_grad_(False)
    tiny_job.fit(task, config, tiny_job.context_for(tmp_path / "frozen"), stage="tiny")
