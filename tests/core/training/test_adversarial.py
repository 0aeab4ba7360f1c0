"""Discriminators as a player: hinge losses and feature matching, and that each waveform is judged alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from wavslm_core.errors import CheckpointError
from wavslm_core.model.discriminators import Discriminators
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.context import StageContext
from wavslm_core.testing.fake_configs import FakeDiscriminatorConfig
from wavslm_core.testing.fakes import register_fakes
from wavslm_core.training.adversarial import Adversary
from wavslm_core.training.config import AdversarialConfig
from wavslm_core.training.task import LossOutput

SAMPLES = 800
FAKES = [{"name": "fake", "channels": 4}, {"name": "fake", "channels": 6}]


def adversary(tmp_path: Path, **options: Any) -> Adversary:
    register_fakes()
    torch.manual_seed(0)
    context = StageContext(recipe=resolve(recipe_from_dict({"name": "a"})), run_dir=tmp_path)
    return Adversary(AdversarialConfig(**{"discriminators": FAKES, **options}), context)


def noise(rows: int, samples: int = SAMPLES, *, seed: int = 0) -> Tensor:
    return torch.rand(rows, samples, generator=torch.Generator().manual_seed(seed)) - 0.5


def test_hinge_losses_are_summed_over_sub_discriminators(tmp_path: Path) -> None:
    foe = adversary(tmp_path)
    foe.discriminators.eval()
    target_BS, estimate_BS = noise(3), 4 * noise(3, seed=1)
    for member in foe.discriminators.members:
        # Scores far on both sides of the margin.
        member.last.weight.data.mul_(20)
    with torch.no_grad():
        real, fake = foe.discriminators(target_BS), foe.discriminators(estimate_BS)
    hinges = [
        float((1 - one.scores_BN).clamp(min=0).mean() + (1 + other.scores_BN).clamp(min=0).mean())
        for one, other in zip(real, fake, strict=True)
    ]
    output = foe.judge(target_BS, estimate_BS, samples=SAMPLES)
    assert output.loss.item() == pytest.approx(sum(hinges), rel=1e-6)
    assert float(output.metrics["loss_of_each"]) == pytest.approx(sum(hinges) / 2, rel=1e-6)
    right = [float((other.scores_BN < 0).float().mean()) for other in fake]
    assert float(output.metrics["fake_accuracy"]) == pytest.approx(sum(right) / 2)
    assert output.weight == 3

    terms = foe.fool(target_BS, estimate_BS, samples=SAMPLES)
    assert terms["adversarial"].item() == pytest.approx(
        -sum(float(other.scores_BN.mean()) for other in fake), rel=1e-5
    )
    distances = [
        float((a - b).abs().mean())
        for one, other in zip(real, fake, strict=True)
        for a, b in zip(one.maps, other.maps, strict=True)
    ]
    assert len(distances) == 4
    assert terms["feature_matching"].item() == pytest.approx(sum(distances) / 4, rel=1e-5)
    assert foe.weights.keys() == terms.keys()


def test_discriminators_that_know_nothing_lose_two_each(tmp_path: Path) -> None:
    foe = adversary(tmp_path)
    for member in foe.discriminators.members:
        member.last.weight.data.zero_()
    output = foe.judge(noise(2), noise(2, seed=1), samples=SAMPLES)
    assert output.loss.item() == 4.0
    assert float(output.metrics["loss_of_each"]) == 2.0
    assert float(output.metrics["real_accuracy"]) == float(output.metrics["fake_accuracy"]) == 0.0


def test_what_is_said_of_an_item_does_not_hang_on_those_beside_it(tmp_path: Path) -> None:
    foe = adversary(tmp_path)
    foe.discriminators.eval()
    pairs = [(noise(1, size, seed=size), noise(1, size, seed=size + 1)) for size in (SAMPLES, 500, 37)]
    alone = [(foe.judge(*pair, samples=SAMPLES), foe.fool(*pair, samples=SAMPLES)) for pair in pairs]
    batch = [
        torch.cat([torch.nn.functional.pad(pair[side], (0, 700 - pair[side].shape[1])) for pair in pairs[1:]])
        for side in (0, 1)
    ]
    judged, fooled = foe.judge(*batch, samples=SAMPLES), foe.fool(*batch, samples=SAMPLES)
    wanted = sum(one.loss.item() for one, _ in alone[1:]) / 2
    assert judged.loss.item() == pytest.approx(wanted, rel=1e-6)
    for name, value in fooled.items():
        wanted = sum(terms[name].item() for _, terms in alone[1:]) / 2
        assert value.item() == pytest.approx(wanted, rel=1e-5)


def test_gradients_go_where_they_belong(tmp_path: Path) -> None:
    foe = adversary(tmp_path)
    target_BS, estimate_BS = noise(2), noise(2, seed=1).requires_grad_()
    foe.judge(target_BS, estimate_BS, samples=SAMPLES).loss.backward()
    assert estimate_BS.grad is None
    assert all(weight.grad is not None for weight in foe.discriminators.parameters())
    foe.discriminators.zero_grad()
    foe.discriminators.requires_grad_(False)
    for term in foe.fool(target_BS, estimate_BS, samples=SAMPLES).values():
        (gradient,) = torch.autograd.grad(term, estimate_BS, retain_graph=True)
        assert gradient.any()
    assert all(weight.grad is None for weight in foe.discriminators.parameters())


def test_the_player_has_the_options_of_its_block(tmp_path: Path) -> None:
    foe = adversary(tmp_path, starts_at_step=7, lr=1e-3)
    player = foe.player(lambda step, micro_batch: LossOutput(torch.zeros(())))
    assert (player.config.lr, player.starts_at_step, player.modules) == (1e-3, 7, foe.modules)
    assert [foe.plays(step) for step in (6, 7)] == [False, True]
    # The published values.
    assert (foe.config.betas, foe.config.clip_norm, foe.config.schedule) == ((0.8, 0.99), None, "constant")
    assert foe.weights == {"adversarial": 1.0, "feature_matching": 54.0}
    assert AdversarialConfig(discriminators=FAKES).lr == 4e-4


def test_discriminators_start_from_those_of_another_run(tmp_path: Path) -> None:
    first = adversary(tmp_path / "first")
    first.save()
    others = {"init": str(tmp_path / "first" / "discriminators")}
    for given in ({}, {"discriminators": FAKES}):
        second = adversary(tmp_path / "second", **{"discriminators": (), **others, **given})
        for key, value in first.discriminators.state_dict().items():
            assert torch.equal(value, second.discriminators.state_dict()[key]), key
    # The run's folder says as well where they are.
    assert adversary(tmp_path, init=str(tmp_path / "first")).discriminators.configs == (
        FakeDiscriminatorConfig(channels=4),
        FakeDiscriminatorConfig(channels=6),
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"discriminators": FAKES[:1]},
            r"are fake \{channels: 4\} and fake \{channels: 6\}, but fake .* are asked",
        ),
        ({"init": "./nowhere"}, "no folder './nowhere' exists"),
    ],
)
def test_discriminators_that_do_not_fit_are_refused(tmp_path: Path, given: Any, said: str) -> None:
    adversary(tmp_path).save()
    with pytest.raises(CheckpointError, match=said):
        adversary(tmp_path, **{"init": str(tmp_path), **given})


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    adversary(tmp_path).save()
    path = tmp_path / "discriminators" / "config.json"
    text = path.read_text()
    path.write_text(text.replace("wavslm-discriminators", "wavslm-codec"))
    with pytest.raises(
        CheckpointError, match=r"its config.json is 'wavslm-codec', not 'wavslm-discriminators'"
    ):
        Discriminators.load(tmp_path)
    path.write_text(text.replace('"version": 1', '"version": 2'))
    with pytest.raises(CheckpointError, match="is version 2 of its format, this release reads version 1"):
        Discriminators.load(tmp_path)
    path.write_text(text.replace('"channels": 6', '"channels": 7'))
    with pytest.raises(CheckpointError, match=r"members.1.first.bias is \[6\], expected \[7\]"):
        Discriminators.load(tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"discriminators": FAKES, "weight": 0, "feature_matching_weight": 0}, "leave `adversarial` out"),
        ({"discriminators": [{"name": "other"}]}, "no discriminator is called 'other'"),
    ],
)
def test_options_that_make_no_adversary(options: dict[str, Any], said: str) -> None:
    register_fakes()
    with pytest.raises(ValueError, match=said):
        AdversarialConfig(**options)


def numbers(each: float, real: float, fake: float) -> dict[str, float]:
    return {"loss_of_each": each, "real_score": real, "fake_score": fake}


def test_discriminators_that_won_or_tell_nothing_apart_are_named_with_figures(tmp_path: Path) -> None:
    foe = adversary(tmp_path, collapse_steps=50)
    player = foe.player(lambda step, micro_batch: LossOutput(torch.zeros(())))
    assert player.most_stuck_steps == 50
    won, silent = player.stuck(numbers(0.01, 1.4, -2.0)), player.stuck(numbers(1.99, 0.31, 0.3))
    assert won is not None
    assert (
        "win, with a hinge loss of 0.01 each (2 is chance, 0 perfect), mean scores of 1.4 for speech" in won
    )
    assert "Halve their `adversarial.lr`, which is 0.0004" in won
    assert silent is not None
    assert "tell nothing apart, with a hinge loss of 1.99 each" in silent
    for well in (numbers(1.1, 0.5, -0.4), numbers(1.95, 0.4, 0.35), numbers(float("nan"), 0.0, 0.0)):
        assert player.stuck(well) is None
