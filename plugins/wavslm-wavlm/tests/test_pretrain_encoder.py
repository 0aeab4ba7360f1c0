"""Stage pretrain_encoder: what it leaves, what it starts from, and what it says when it cannot."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import melodies
import pytest
import torch
import yaml

from wavslm_core.plugin import LossOutput, RecipeError, StageContext, WavslmError, load_encoder
from wavslm_core.recipe.checks import check
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_wavlm.pretraining.clusters import Clusters
from wavslm_wavlm.pretraining.task import MaskedPrediction

SECOND = {"encoder": "pretrain_encoder", "layer": 1, "clusters": 4}
"""Targets of a second iteration."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain")
    melodies.write_melodies(folder, {"train": [1.2, 0.7, 0.5], "valid": [0.6, 0.4]})
    return folder


def problems(context: StageContext, *stages: dict[str, Any], **recipe: Any) -> str:
    document = {**context.recipe.to_dict(), "stages": list(stages), **recipe}
    document = {key: value for key, value in document.items() if value is not None}
    with pytest.raises(RecipeError) as error:
        check(recipe_from_dict(document))
    return str(error.value)


def test_it_leaves_an_encoder_with_full_context_and_a_second_one_learns_its_hidden_states(
    folder: Path,
) -> None:
    first = melodies.make_context(folder, melodies.STAGE, {**melodies.STAGE, "targets": SECOND}, name="two")
    check(first.recipe)
    second = replace(first, stage_name="pretrain_encoder_2")
    melodies.make_stage(first).run(first)
    left = load_encoder(first.place("encoder"))
    assert left.config.causal is False
    assert left.config.model_copy(update={"causal": True}) == first.recipe.part_configs["encoder"]
    melodies.make_stage(second).run(second)
    assert Clusters.load(first.place("clusters")).centroids_KF.shape == (6, 39)
    assert Clusters.load(second.place("clusters")).centroids_KF.shape == (4, 32)
    states = [load_encoder(context.place("encoder")).state_dict() for context in (first, second)]
    assert not any(torch.equal(states[0][key], states[1][key]) for key in states[0])
    results = json.loads((first.run_dir / "results/pretrain_encoder_2.json").read_text())
    assert results["clusters"]["used"] <= 4
    checkpoint = next((first.run_dir / "checkpoints/pretrain_encoder").glob("*.pt"))
    assert "predictor" in torch.load(checkpoint, weights_only=True)["modules"]


def test_it_goes_on_from_an_earlier_one(folder: Path) -> None:
    again = {**melodies.STAGE, "starts_from": "pretrain_encoder"}
    context = melodies.make_context(folder, melodies.STAGE, again, name="again")
    melodies.make_stage(context).run(context)
    second = replace(context, stage_name="pretrain_encoder_2")
    start, left = melodies.make_stage(second).build_model(second), load_encoder(context.place("encoder"))
    assert all(torch.equal(value, left.state_dict()[key]) for key, value in start.state_dict().items())
    assert melodies.make_stage(second).plan(second.recipe)["starts from"] == "pretrain_encoder/encoder"
    assert melodies.make_stage(context).plan(context.recipe)["starts from"] == "random weights"


class Killed(BaseException):
    """What nothing catches."""


@pytest.mark.parametrize("step", [1, 3])
def test_killed_and_started_again_it_ends_alike(
    folder: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = {**melodies.STAGE, "checkpoint_every": 2}
    whole, killed = (melodies.make_context(folder, stage, name=name) for name in ("whole", f"killed-{step}"))
    melodies.make_stage(whole).run(whole)
    loss = MaskedPrediction.loss

    def die(task: MaskedPrediction, at: int, micro_batch: int) -> LossOutput:
        if at == step:
            raise Killed
        return loss(task, at, micro_batch)

    with monkeypatch.context() as patched:
        patched.setattr(MaskedPrediction, "loss", die)
        with pytest.raises(Killed):
            melodies.make_stage(killed).run(killed)
    # The cache may be cleared meanwhile: what it holds is made again, of the clusters that the run keeps.
    for store in killed.cache_dir.glob("clusters-*"):
        shutil.rmtree(store)
    melodies.make_stage(killed).run(killed)
    states = [load_encoder(context.place("encoder")).state_dict() for context in (whole, killed)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_an_encoder_of_its_own_needs_none_in_the_recipe(folder: Path) -> None:
    context = melodies.make_context(
        folder, {**melodies.STAGE, "encoder": {**melodies.WAVLM, "num_layers": 1}}, encoder={"name": "mel"}
    )
    check(context.recipe)
    model = melodies.make_stage(context).build_model(context)
    assert (model.config.num_layers, model.config.causal) == (1, False)


def test_what_cannot_be_trained_is_said_before_anything_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = melodies.make_context(folder, name="missing")
    said = problems(context, melodies.STAGE, encoder={"name": "mel"})
    assert "encoder: a `wavlm` is trained, but this is a 'mel'. Give `encoder: {name: wavlm, …}`" in said
    assert "but there is none" in problems(context, melodies.STAGE, encoder=None)
    said = problems(context, {**melodies.STAGE, "targets": SECOND})
    assert "reads pretrain_encoder/encoder, which no earlier stage leaves" in said
    both = {**melodies.STAGE, "starts_from": "pretrain_encoder", "encoder": melodies.WAVLM}
    assert "starts_from brings an encoder along" in problems(context, melodies.STAGE, both)
    half = {"encoder": {**melodies.WAVLM, "strides": [160, 1]}}
    said = problems(context, {**melodies.STAGE, "targets": half})
    assert "targets.encoder gives a frame every 160 samples at 16000 Hz, but" in said
    said = problems(context, {**melodies.STAGE, "targets": {"layer": 2}})
    assert "no encoder that has layers" in said
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(WavslmError, match="scikit-learn"):
        melodies.make_stage(context).run(context)


def test_targets_of_another_frame_rate_are_refused(folder: Path) -> None:
    other = {**melodies.STAGE, "encoder": {**melodies.WAVLM, "strides": [160, 1]}}
    context = melodies.make_context(folder, other, {**melodies.STAGE, "targets": SECOND}, name="rates")
    melodies.make_stage(context).run(context)
    second: StageContext = replace(context, stage_name="pretrain_encoder_2")
    with pytest.raises(RecipeError, match=r"a frame every 160 samples at 16000 Hz, but .* every 320"):
        melodies.make_stage(second).run(second)


def test_the_recipe_of_the_page_fits_together() -> None:
    page = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml title=\S+\n(.+?)```", page, re.DOTALL)
    recipe = check(recipe_from_dict(yaml.safe_load(example)))
    assert [name for name, _ in recipe.named_stages()][:3] == [
        "pretrain_encoder",
        "pretrain_encoder_2",
        "probe_encoder",
    ]
