"""Stage train_codec: any codec learns, what is frozen stays, padding costs nothing, mistakes are named."""

import importlib
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tests.docs.markdown import blocks
from wavslm_core.data.audio import resample, write_audio
from wavslm_core.data.batches import Batching
from wavslm_core.data.corpora import Split
from wavslm_core.errors import AudioError, PluginError, RecipeError
from wavslm_core.evaluation.metrics import MelDistance
from wavslm_core.machine.processes import Interrupted
from wavslm_core.model.codec import Codec
from wavslm_core.parts.interfaces import QuantizerOutput
from wavslm_core.parts.plugins import load_registry
from wavslm_core.recipe.checks import check
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import ResolvedRecipe
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.context import StageContext
from wavslm_core.run.metrics_file import read_metrics
from wavslm_core.stages.train_codec import TrainCodec, TrainCodecConfig
from wavslm_core.testing.fake_configs import FakeQuantizerConfig
from wavslm_core.training.codec_task import CodecTask
from wavslm_core.training.guards import TrainingError

CONTRIBUTING = Path(__file__).parents[3] / "CONTRIBUTING.md"
OPTIONS: dict[str, Any] = {
    "steps": 40,
    "batch_size": 4,
    "lr": 5e-3,
    "crop_seconds": 0.5,
    "continuous_steps": 20,
    "spectral_floor": 1e-3,
    "quantizer_weights": {"commitment": 0.1},
    "validate_every": 20,
    "checkpoint_every": 20,
    "log_every": 10,
    "show_every": 40,
    "spectral_windows": [256, 512],
    "metrics": ["mel_distance"],
    "precision": "fp32",
}


@pytest.fixture
def context(recipe: ResolvedRecipe, tmp_path: Path) -> StageContext:
    return StageContext(recipe=recipe, run_dir=tmp_path / "run", stage_name="train_codec")


def train(context: StageContext, **options: Any) -> dict[str, Any]:
    TrainCodec(TrainCodecConfig(**{**OPTIONS, **options})).run(context)
    results: dict[str, Any] = json.loads((context.run_dir / "results" / "train_codec.json").read_text())
    return results


def task_of(context: StageContext, codec: Codec | None = None, **options: Any) -> CodecTask:
    stage = TrainCodec(TrainCodecConfig(**{**OPTIONS, **options}))
    task = stage.make_task(codec or stage.build_model(context), context)
    assert isinstance(task, CodecTask)
    return task


def test_a_codec_of_any_parts_learns(context: StageContext) -> None:
    torch.manual_seed(123)
    untrained = task_of(context).validate()
    results = train(context)
    assert results["valid"]["loss"] < 0.85 * untrained["loss"]
    assert results["valid"]["mel_distance"] < untrained["mel_distance"]
    assert 1 < results["valid"]["codes_used"] <= 32
    assert 0 < results["valid"]["code_entropy_bits"] <= 5
    lines = read_metrics(context.run_dir / "metrics.jsonl")
    assert {line["split"] for line in lines} == {"train", "valid"}
    assert {"spectral", "feature", "commitment", "codes_in_batch"} <= set(lines[0])


def test_noise_is_heard_in_training_and_a_clean_target_is_not_noisy(context: StageContext) -> None:
    def with_noise(**augment: Any) -> StageContext:
        document = context.recipe.to_dict()
        document["data"] |= {"augment": {"noise": {"probability": 1, "snr_db": [0, 0]}, **augment}}
        return replace(context, recipe=resolve(recipe_from_dict(document)))

    codec = TrainCodec(TrainCodecConfig(**OPTIONS)).build_model(context)
    plain, noisy, cleaning = (
        task_of(given, codec) for given in (context, with_noise(), with_noise(target="clean"))
    )
    heard = [task.rebuild(0, 0) for task in (plain, noisy, cleaning)]
    assert torch.equal(heard[1].features_BTD, heard[2].features_BTD)
    assert not torch.equal(heard[0].features_BTD, heard[1].features_BTD)
    assert torch.equal(heard[0].target_BS, heard[2].target_BS)
    noise_BS = heard[1].target_BS - heard[0].target_BS
    assert float(noise_BS.square().mean() / heard[0].target_BS.square().mean()) == pytest.approx(1, rel=0.2)
    assert plain.validate() == noisy.validate() == cleaning.validate(), "validation hears no noise"


def test_validation_recordings_of_a_sample_end_nothing(
    context: StageContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for split, name, samples in (
        ("train", "a", 16000),
        ("valid", "0", 1),
        ("valid", "1", 300),
        ("valid", "2", 9000),
    ):
        write_audio(tmp_path / "audio" / split / f"{name}.wav", torch.rand(samples) - 0.5, 16000)
    document = {**context.recipe.to_dict(), "data": {"corpus": "folder", "path": str(tmp_path / "audio")}}
    context = replace(context, recipe=resolve(recipe_from_dict(document)))
    compute = MelDistance.compute

    def picky(metric: MelDistance, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int) -> float:
        if len(reference_S) < 500:
            raise IndexError("index -1 is out of bounds")
        return compute(metric, reference_S, estimate_S, sample_rate_hz=sample_rate_hz)

    monkeypatch.setattr(MelDistance, "compute", picky)
    results = train(context, steps=2, continuous_steps=0, show_every=1)
    assert results["valid"]["mel_distance"] > 0
    assert results["valid"]["mel_distance_failed"] == 2
    assert "metric 'mel_distance' failed on 2 of 3 utterances" in caplog.text
    assert "does not show" not in caplog.text


def test_the_codec_that_was_validated_is_the_one_that_is_saved(context: StageContext) -> None:
    results = train(context)
    again = task_of(context, context.codec()).validate()
    assert again["loss"] == pytest.approx(results["valid"]["loss"], rel=1e-5)


def test_interrupted_and_continued_it_ends_alike(recipe: ResolvedRecipe, tmp_path: Path) -> None:
    whole = StageContext(recipe=recipe, run_dir=tmp_path / "whole", stage_name="train_codec")
    train(whole)
    polls = iter([False] * 25 + [True])
    broken = StageContext(
        recipe=recipe,
        run_dir=tmp_path / "broken",
        stage_name="train_codec",
        stop_requested=lambda: next(polls, False),
    )
    with pytest.raises(Interrupted):
        train(broken)
    assert not broken.codec_dir.exists()
    train(broken)
    expected = whole.codec().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in broken.codec().state_dict().items())


def test_the_reader_ends_with_training_however_that_ends(
    context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tasks of other tests may still have theirs.
    others = set(threading.enumerate())

    def readers() -> list[str]:
        ours = set(threading.enumerate()) - others
        return [thread.name for thread in ours if thread.name.startswith("read-ahead")]

    seen: list[list[str]] = []
    load = Split.load_crop

    def spy(split: Split, index: int, **options: Any) -> Tensor:
        seen.append(readers())
        if len(seen) > 60:
            raise AudioError("a.wav is gone")
        return load(split, index, **options)

    polls = iter([False] * 5 + [True])
    monkeypatch.setattr(Split, "load_crop", spy)
    with pytest.raises(Interrupted):
        train(replace(context, stop_requested=lambda: next(polls, False)))
    assert all(seen)
    assert readers() == []
    with pytest.raises(AudioError, match="gone"):
        train(context)
    assert readers() == []


def test_codes_are_off_first_and_on_then(context: StageContext, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(context)
    seen: list[bool] = []
    forward = task.codec.quantizer.forward

    def spy(
        features_BTD: Tensor, *, lengths: Tensor | None = None, bypass_codes: bool = False
    ) -> QuantizerOutput:
        seen.append(bypass_codes)
        return forward(features_BTD, lengths=lengths, bypass_codes=bypass_codes)

    monkeypatch.setattr(task.codec.quantizer, "forward", spy)
    for step in (0, 19, 20, 39):
        task.loss(step, 0)
    assert seen == [True, True, False, False]


def test_frozen_parts_stay(context: StageContext) -> None:
    stage = TrainCodec(TrainCodecConfig(**{**OPTIONS, "freeze": ["encoder"]}))
    before = stage.build_model(context).state_dict()
    train(context, freeze=["encoder"], steps=21)
    after = context.codec().state_dict()
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"quantizer", "decoder"}


def test_starts_from_the_recipes_checkpoint(context: StageContext, tmp_path: Path) -> None:
    train(context)
    trained = task_of(context, context.codec()).validate()
    document = context.recipe.to_dict()
    for role in ("encoder", "quantizer", "decoder"):
        del document[role]
    document["codec"] = {"checkpoint": str(context.codec_dir)}
    finetuning = replace(context, recipe=resolve(recipe_from_dict(document)), run_dir=tmp_path / "next")
    assert task_of(finetuning).validate()["loss"] == pytest.approx(trained["loss"], rel=1e-5)


def test_a_second_stage_starts_from_what_the_first_left_and_replaces_nothing(
    context: StageContext, tmp_path: Path
) -> None:
    short = {**OPTIONS, "run": "train_codec", "steps": 2, "continuous_steps": 0, "metrics": []}
    stages = [short, {"run": "tokenize"}, {**short, "freeze": ["encoder", "quantizer"]}, {"run": "evaluate"}]
    recipe = resolve(recipe_from_dict({**context.recipe.to_dict(), "stages": stages}))
    check(recipe)
    at = {name: replace(context, recipe=recipe, stage_name=name) for name, _ in recipe.named_stages()}
    first, second = (TrainCodec(config) for config in recipe.stages if isinstance(config, TrainCodecConfig))

    first.run(at["train_codec"])
    assert first.left_results(at["train_codec"])
    assert not second.left_results(at["train_codec_2"])
    left = at["tokenize"].codec().state_dict()
    start = second.build_model(at["train_codec_2"]).state_dict()
    assert all(torch.equal(value, left[key]) for key, value in start.items())

    second.run(at["train_codec_2"])
    trained = at["evaluate"].codec().state_dict()
    changed = {key.partition(".")[0] for key, value in trained.items() if not torch.equal(value, left[key])}
    assert changed == {"decoder"}
    assert all(torch.equal(v, trained[k]) for k, v in Codec.load(context.run_dir).state_dict().items())
    earlier = Codec.load(context.run_dir / "train_codec").state_dict()
    assert all(torch.equal(value, left[key]) for key, value in earlier.items())

    # Run again from the beginning, it does not start from what it left itself.
    shutil.rmtree(context.run_dir / "checkpoints" / "train_codec_2")
    second.run(at["train_codec_2"])
    again = at["evaluate"].codec().state_dict()
    assert all(torch.equal(value, trained[key]) for key, value in again.items())


def test_a_stage_may_have_speech_of_its_own(context: StageContext, tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_audio(tmp_path / "own" / split / "mine.wav", torch.rand(16000) - 0.5, 16000)
    own = {"corpus": "folder", "path": str(tmp_path / "own")}
    task = task_of(context, train_on=own)
    assert [one.id for one in task.train.utterances] == ["train/mine.wav"]
    assert len(task.valid.utterances) > 1
    assert "train_on" not in TrainCodecConfig(**OPTIONS).model_dump(exclude_none=True)

    def checked(**given: Any) -> ResolvedRecipe:
        document = {key: value for key, value in context.recipe.to_dict().items() if key != "data"}
        stages = [{"run": "train_codec", **OPTIONS, **given}]
        return check(recipe_from_dict({**document, "stages": stages}))

    recipe = checked(train_on=own, validate_on=own)
    plan = TrainCodec(recipe.stages[0]).plan(recipe)  # type: ignore[arg-type]
    assert plan["speech of its own"] == "folder (train), folder (valid)"
    assert recipe_from_dict(recipe.to_dict()).stages == recipe.stages
    with pytest.raises(RecipeError, match=r"train_codec needs speech, but the recipe has no `data:` block"):
        checked(train_on=own)
    with pytest.raises(RecipeError, match=r"train_on: no corpus is called 'folders'\. Did you mean 'folder'"):
        checked(train_on={"corpus": "folders"})


def test_padding_costs_nothing(context: StageContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean is over the audio there is: an utterance padded with silence has the loss it has alone."""
    task = task_of(context, batch_size=1, crop_seconds=30.0, spectral_windows=[512])
    waveform_S = task.train.load(task.crops(0, 0)[0].utterance, sample_rate_hz=16000)
    length = len(waveform_S)
    losses = []
    for size in (length, length + 16000):
        padded_1S = torch.nn.functional.pad(waveform_S, (0, size - length))[None]
        batch = (padded_1S, torch.tensor([length]))
        monkeypatch.setattr(task, "padded", lambda _, batch=batch: batch)
        losses.append(float(task.loss(0, 0).metrics["spectral"]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


def test_crops_of_both_rates_hold_the_same_sound(context: StageContext) -> None:
    pytest.importorskip("wavslm_focalcodec_stream")
    registry = load_registry()
    wavenext = registry.entry("decoder", "wavenext").config_class.model_validate(
        {"name": "wavenext", "input_dim": 16, "dim": 16, "ffn_dim": 16, "num_layers": 1, "causal": True}
    )
    fakes = TrainCodec(TrainCodecConfig(**OPTIONS)).build_model(context)
    codec = Codec(fakes.encoder, fakes.quantizer, registry.build(wavenext))
    task = task_of(context, codec)
    assert (task.rate_in, task.rate_out) == (16000, 24000)
    for crop in task.crops(3, 0):
        at_16k, at_24k = task._load(crop, 16000), task._load(crop, 24000)
        assert len(at_24k) == len(at_16k) * 3 // 2
        inner = slice(200, -200)
        error = (resample(at_24k, 24000, 16000) - at_16k)[inner].square().mean()
        assert error < 2e-3 * at_16k[inner].square().mean()
    loss = task.loss(0, 0).loss
    loss.backward()
    assert torch.isfinite(loss)


def test_ranks_together_take_the_global_batch(context: StageContext) -> None:
    codec = TrainCodec(TrainCodecConfig(**OPTIONS)).build_model(context)
    train_split, valid_split = context.split("train"), context.split("valid")

    def crops(**options: Any) -> list[Any]:
        task = CodecTask(
            codec,
            train_split,
            valid_split,
            config=TrainCodecConfig(**OPTIONS),
            batching=Batching(seed=3, **options),
        )
        return task.crops(2, 0)

    whole = crops(micro_batch_size=4)
    parts = [crops(micro_batch_size=4, rank=rank, world_size=2) for rank in (0, 1)]
    assert parts[0] + parts[1] == whole


def test_weight_of_an_unknown_loss_names_the_known_ones(recipe: ResolvedRecipe) -> None:
    stage = TrainCodecConfig(**{**OPTIONS, "quantizer_weights": {"entropi": 0.1}})
    message = r"stages\.0\.train_codec\.quantizer_weights names entropi, but .* losses are: commitment"
    with pytest.raises(RecipeError, match=message):
        check(recipe.model_copy(update={"stages": (stage,)}))


def test_a_quantizer_without_weights_cannot_be_trained_alone(context: StageContext) -> None:
    codec = TrainCodec(TrainCodecConfig(**OPTIONS)).build_model(context)
    codec.quantizer.requires_grad_(False)
    with pytest.raises(RecipeError, match=r"freezes encoder, decoder, .*Leave the decoder out of `freeze`"):
        task_of(context, codec, freeze=["encoder", "decoder"])


def test_a_quantizer_brings_the_weights_of_its_losses(
    context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loss(**options: Any) -> tuple[float, float]:
        torch.manual_seed(0)
        output = task_of(context, **options).loss(0, 0)
        return float(output.loss.detach()), float(output.metrics["commitment"])

    unweighted, commitment = loss(quantizer_weights={})
    monkeypatch.setattr(FakeQuantizerConfig, "loss_weights", {"commitment": 0.5})
    assert loss(quantizer_weights={})[0] == pytest.approx(unweighted + 0.5 * commitment, rel=1e-5)
    assert loss(quantizer_weights={"commitment": 0.0})[0] == pytest.approx(unweighted, rel=1e-5)


def test_losses_that_the_facts_do_not_name_are_told(
    context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeQuantizerConfig, "loss_weights", {})
    with pytest.raises(PluginError, match=r"gave the losses commitment, but its facts say none"):
        task_of(context, quantizer_weights={}).loss(0, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": ["encoder", "quantizer", "decoder"]}, "leave out the one that is to be trained"),
        ({"continuous_steps": 40}, "only 40 steps"),
        ({"spectral_weight": 0}, "nothing would be learnt"),
        ({"spectral_windows": [510]}, "multiples of 4"),
        ({"metrics": ["stoy"]}, "stoi"),
    ],
)
def test_wrong_options_say_what_to_do(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainCodecConfig(**{**OPTIONS, **options})


def test_stages_start_part_by_part_from_those_that_they_name(context: StageContext) -> None:
    short = {**OPTIONS, "run": "train_codec", "steps": 2, "continuous_steps": 0, "metrics": []}
    stages = [
        {**short, "freeze": ["encoder", "quantizer"]},
        {**short, "starts_from": "train_codec", "freeze": ["quantizer", "decoder"]},
        {**short, "freeze": ["encoder", "decoder"]},
        {
            **short,
            "starts_from": {"encoder": "train_codec_2", "decoder": "train_codec"},
            "freeze": ["encoder"],
        },
    ]
    document = {**context.recipe.to_dict(), "stages": stages}
    recipe = resolve(recipe_from_dict(document))
    check(recipe)
    assert "starts_from" not in recipe.to_dict()["stages"][0]
    codecs = []
    for name, config in recipe.named_stages():
        assert isinstance(config, TrainCodecConfig)
        TrainCodec(config).run(here := replace(context, recipe=recipe, stage_name=name))
        codecs.append(Codec.load(here.codec_dir))
    last = TrainCodec(config).build_model(here)
    wanted = {"encoder": codecs[1], "decoder": codecs[0], "quantizer": codecs[2]}
    for role, codec in wanted.items():
        given, expected = getattr(last, role).state_dict(), getattr(codec, role).state_dict()
        assert all(torch.equal(value, given[key]) for key, value in expected.items()), role
    changed = [
        {
            key.partition(".")[0]
            for key, value in after.state_dict().items()
            if not torch.equal(value, old[key])
        }
        for old, after in zip([codec.state_dict() for codec in codecs], codecs[1:], strict=False)
    ]
    assert changed == [{"encoder"}, {"quantizer"}, {"quantizer", "decoder"}]
    assert TrainCodec(config).plan(recipe)["starts from"] == "train_codec_2/codec, train_codec/codec"


def test_the_codec_against_a_discriminator_as_contributors_are_shown(
    context: StageContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = (block.body for block in blocks(CONTRIBUTING) if block.title == "adversarial.py")
    (tmp_path / "adversarial.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    shown = importlib.import_module("adversarial")
    options = {**OPTIONS, "run": "train_adversarial", "steps": 6, "continuous_steps": 1, "log_every": 1}
    config = shown.TrainAdversarialConfig(**options, discriminator={"lr": 1e-3, "schedule": "constant"})
    before = TrainCodec(TrainCodecConfig(**OPTIONS)).build_model(context).state_dict()
    shown.TrainAdversarial(config).run(context)
    lines = [line for line in read_metrics(context.run_dir / "metrics.jsonl") if line["split"] == "train"]
    assert [line.get("discriminator_lr") for line in lines] == [None, None, 1e-3, 1e-3, 1e-3, 1e-3]
    assert all(line["loss"] == line["codec_loss"] for line in lines)
    trained = context.codec().state_dict()
    assert before.keys() == trained.keys()
    assert any(not torch.equal(value, trained[key]) for key, value in before.items())
    both = shown.TrainAdversarialConfig(**options, adversarial={"discriminators": [{"name": "fake"}]})
    with pytest.raises(TrainingError, match=r"module 'discriminators' .* weights that no player trains"):
        shown.TrainAdversarial(both).run(replace(context, run_dir=tmp_path / "both"))
