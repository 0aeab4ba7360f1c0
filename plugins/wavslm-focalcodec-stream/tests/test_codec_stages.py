"""The stages that train quantizers and decoders: each improves what it should and leaves the rest, goes on
where it was killed, and says what does not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import taught_run
import torch

from wavslm_core.errors import CheckpointError, DataError, RecipeError
from wavslm_core.model.codec import Codec
from wavslm_core.recipe.checks import check
from wavslm_core.run.context import StageContext
from wavslm_core.run.metrics_file import read_metrics
from wavslm_core.testing import contract_tests
from wavslm_core.testing.fakes import register_fakes
from wavslm_core.training.guards import TrainingError
from wavslm_core.training.losses import MelLoss
from wavslm_focalcodec_stream.codec_stages import (
    FinetuneDecoderConfig,
    TrainCodecJointConfig,
    TrainDecoderConfig,
    TrainQuantizerConfig,
)
from wavslm_focalcodec_stream.decoder_task import LogMelDistance

BLOCKS = {"hidden_dims": [16, 16], "focal_window": 3, "focal_factor": 2, "window_size": 16}
PARTS = {
    "quantizer": {
        "name": "focalcodec_stream",
        "codebook_size": 64,
        "compressor": {**BLOCKS, "downscale_factors": [1, 1]},
        "decompressor": {**BLOCKS, "upscale_factors": [1, 1], "last_window_size": 16, "lookahead_size": 3},
    },
    "decoder": {"name": "wavenext", "dim": 16, "ffn_dim": 32, "num_layers": 1},
}
SECONDS = {"train": [0.5, 1.37, 2.0, 0.9, 1.1], "valid": [0.61, 1.0, 1.4]}
STAGES = ("train_decoder", "train_quantizer", "train_codec_joint", "finetune_decoder")


@pytest.fixture(autouse=True)
def _gradients() -> Iterator[None]:
    with torch.enable_grad():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    taught_run.write_tones(folder / "audio", SECONDS)
    return folder


@pytest.fixture(scope="module")
def stages() -> dict[str, dict[str, Any]]:
    taught = {"teacher": taught_run.WAVLM}
    often = {"validate_every": 20, "show_every": 40, "log_every": 10}
    decoder = {"batch_size": 4, "crop_seconds": 0.4, "lr": 6e-3, "metrics": ["mel_distance"], **often}
    judges = {"discriminators": [{"name": "multi_period", "periods": [2, 3], "channels": 32}]}
    quantizer = {"batch_size": 4, **often}
    return {
        "train_decoder": {"steps": 24, **decoder, **taught, "adversarial": judges},
        "train_quantizer": {"steps": 60, "lr": 7e-3, **quantizer},
        "train_codec_joint": {"steps": 40, "lr": 7e-3, **quantizer, **taught},
        "finetune_decoder": {"steps": 6, **decoder, "adversarial": {}, "spectral_windows": [256]},
    }


def make_context(folder: Path, *stages: dict[str, Any], name: str = "run", **recipe: Any) -> StageContext:
    context: StageContext = taught_run.make_context(folder, *stages, name=name, **{**PARTS, **recipe})
    return context


@pytest.fixture(scope="module")
def done(folder: Path, stages: dict[str, dict[str, Any]]) -> tuple[StageContext, dict[str, Any]]:
    """The chain, run; the encoder is as random as its teacher, since nothing distils it."""
    chain = [{"run": name, **options} for name, options in stages.items()]
    context = make_context(folder, *chain, name="done")
    check(context.recipe)
    with torch.enable_grad():
        return context, taught_run.run_stages(context)


def place(name: str) -> str:
    return "codec" if name == STAGES[-1] else f"{name}/codec"


def task_of(folder: Path, name: str, **options: Any) -> Any:
    """Return the task of a stage that is the only one of a run."""
    context = make_context(folder, {"run": name, **options})
    stage = context.recipe.registry.build(context.recipe.stages[0])
    here = replace(context, stage_name=name)
    return stage.make_task(stage.build_model(here), here)


def alone(options: dict[str, Any]) -> dict[str, Any]:
    """Return a stage's options without discriminators."""
    return {key: value for key, value in options.items() if key != "adversarial"}


@pytest.mark.slow
def test_each_learns(done: tuple[StageContext, Any], folder: Path, stages: dict[str, dict[str, Any]]) -> None:
    _, results = done
    for name, part in (("train_decoder", 0.85), ("train_quantizer", 0.7)):
        task = task_of(folder, name, **alone(stages[name]))
        with torch.no_grad():
            assert results[name]["valid"]["loss"] < part * task.validate()["loss"]
    joint = results["train_codec_joint"]["valid"]
    assert joint["loss"] < 0.6 * joint["mse_before"]
    assert joint["unrefined_mse_before"] == joint["mse_before"]
    assert joint["loss"] < 0.95 * joint["unrefined_mse"]
    assert joint["codebook_usage"] > 0.3
    assert results["finetune_decoder"]["valid"]["mel_distance"] > 0


@torch.no_grad()
def test_what_is_said_is_what_the_saved_codec_does(done: tuple[StageContext, Any], folder: Path) -> None:
    """Utterance by utterance, without batches, padding or tasks."""
    context, results = done
    split = context.split("valid")
    teacher = task_of(folder, "train_codec_joint", teacher=taught_run.WAVLM, steps=1).teacher
    for name in ("train_quantizer", "train_codec_joint"):
        codec = Codec.load(context.run_dir / place(name))
        encoder = teacher if name == "train_codec_joint" else codec.encoder
        errors, wanted, used = [], [], set()
        for index in range(3):
            waveform_1S = split.load(index, sample_rate_hz=16000)[None]
            tokens_1T = codec.encode(waveform_1S)
            # The student may have a frame more than its teacher.
            wanted.append(encoder(waveform_1S)[0])
            given_TD = codec.quantizer.decode(tokens_1T)[0, : len(wanted[-1])]
            errors.append((given_TD - wanted[-1]).square())
            used |= set(tokens_1T[0].tolist())
        said = results[name]["valid"]
        mse = float(torch.cat(errors).mean())
        assert said["loss"] == pytest.approx(mse, rel=1e-4)
        variance = float(torch.cat(wanted).var(0, correction=0).mean())
        assert said["relative_mse"] == pytest.approx(mse / variance, rel=1e-4)
        assert said["codes_used"] == len(used)


def test_only_what_is_trained_changes(done: tuple[StageContext, Any]) -> None:
    context, _ = done
    states = [Codec.load(context.run_dir / place(name)).state_dict() for name in STAGES]
    changed = [
        {key for key, value in after.items() if not torch.equal(value, before[key])}
        for before, after in pairwise(states)
    ]
    refiner = {key for key in states[0] if ".refiner." in key}
    positions = {key for key in states[0] if "positional_embedding" in key or "relative_embedding" in key}
    by_role = {
        role: {key for key in states[0] if key.startswith(f"{role}.")}
        for role in ("encoder", "quantizer", "decoder")
    }
    # The refiner's last layer became the identity's.
    assert changed[0] == by_role["quantizer"] - refiner | {key for key in refiner if "out_proj" in key}
    assert not any(states[1][key].any() for key in refiner if "out_proj" in key)
    assert changed[1] == by_role["encoder"] - positions | by_role["quantizer"]
    assert changed[2] == by_role["decoder"]


def test_what_is_logged_and_shown(done: tuple[StageContext, Any]) -> None:
    context, _ = done
    lines = read_metrics(context.run_dir / "metrics.jsonl")
    seen = {
        name: set().union(*(line for line in lines if line["stage"] == name and line["split"] == "train"))
        for name in STAGES
    }
    assert {"codec_spectral", "codec_adversarial", "codec_feature_matching"} <= seen["train_decoder"]
    assert {"mse", "entropy", "commitment"} <= seen["train_quantizer"] & seen["train_codec_joint"]
    for name in STAGES:
        folder = context.run_dir / "tensorboard" / name
        events = b"".join(path.read_bytes() for path in folder.rglob("events.*"))
        wanted = (b"reconstruction", b"spectrograms") if "decoder" in name else (b"features",)
        assert all(tag in events for tag in wanted), name


@pytest.mark.parametrize(
    "name", [STAGES[0], *(pytest.param(one, marks=pytest.mark.slow) for one in STAGES[1:])]
)
def test_killed_at_a_random_step_it_ends_bit_equal(
    folder: Path,
    stages: dict[str, dict[str, Any]],
    done: tuple[StageContext, Any],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {**stages[name], "steps": 6, "checkpoint_every": 2, "validate_every": 3, "accumulate": 2}
    if name == "finetune_decoder":
        options["adversarial"] = {"init": str(done[0].run_dir / "train_decoder" / "discriminators")}
    stage = {"run": name, **options}

    whole, broken = (make_context(folder, stage, name=f"{where}-{name}") for where in ("whole", "broken"))
    expected = taught_run.run_stages(whole)[name]
    task = type(task_of(folder, name, **alone(options)))
    found = taught_run.run_stages_once_killed(broken, task, monkeypatch)[name]
    for left in ("codec", "discriminators")[: 1 + ("decoder" in name)]:
        weights = [context.run_dir / left / "model.safetensors" for context in (whole, broken)]
        assert weights[0].read_bytes() == weights[1].read_bytes()
    assert found["valid"] == expected["valid"]


@pytest.mark.slow
def test_two_processes_with_players_compute_what_one_does(
    folder: Path, stages: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    stage = {"run": "train_decoder", **stages["train_decoder"], "steps": 4, "validate_every": 2}
    alone = make_context(folder, stage, name="alone")
    expected = taught_run.run_stages(alone)["train_decoder"]["valid"]
    both = taught_run.run_in_two_processes(folder, tmp_path, stage, **PARTS)
    found = json.loads((both / "results/train_decoder.json").read_text())["valid"]
    assert found == pytest.approx(expected, rel=1e-4)
    weights = Codec.load(alone.run_dir / "codec").state_dict()
    for key, value in Codec.load(both / "codec").state_dict().items():
        torch.testing.assert_close(value, weights[key], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", STAGES)
def test_padding_is_hardly_counted(
    folder: Path, stages: dict[str, dict[str, Any]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of a batch is the mean of those of its items; frames at a waveform's edges differ a little."""
    part, tolerance = ("spectral", 2e-2) if "decoder" in name else ("mse", 1e-5)
    task = task_of(folder, name, **{**alone(stages[name]), "crop_seconds": 1.2})
    task.codec.eval()
    whole = task.loss(0, 0)
    outputs = taught_run.losses_of_items(task, monkeypatch)
    assert sum(output.weight for output in outputs) == whole.weight
    total = sum(float(output.metrics[part]) * output.weight for output in outputs)
    assert total / whole.weight == pytest.approx(float(whole.metrics[part]), rel=tolerance)
    task.close()


@pytest.mark.parametrize("name", ["train_quantizer", "train_codec_joint"])
def test_relative_errors_leave_the_weights_of_other_losses_as_they_are(
    folder: Path, stages: dict[str, dict[str, Any]], name: str
) -> None:
    plain, relative = (task_of(folder, name, **stages[name], relative_error=flag) for flag in (False, True))
    wanted, valid = [], relative.valid
    with torch.no_grad():
        for index in range(len(valid.utterances)):
            wanted.append(relative.teacher(valid.load(index, sample_rate_hz=16000)[None])[0])
    variance = torch.cat(wanted).var(dim=0, correction=0).mean()
    losses = {}
    for task in (plain, relative):
        output = task.loss(0, 0)
        losses[task] = output.loss.detach() - 0.1 * output.metrics["entropy"]
        torch.testing.assert_close(losses[task] * task.scale, output.metrics["mse"], rtol=1e-4, atol=1e-6)
        with torch.no_grad():
            found = task.validate()
        assert found["loss"] * task.scale == pytest.approx(found["relative_mse"] * float(variance), rel=1e-3)
        task.close()
    torch.testing.assert_close(losses[relative] * variance, losses[plain], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["train_quantizer", "finetune_decoder"])
def test_what_the_codec_itself_gives_can_be_kept(
    folder: Path, stages: dict[str, dict[str, Any]], name: str
) -> None:
    heard, kept = (
        task_of(folder, name, **alone(stages[name]), teacher_cache=cache) for cache in (False, True)
    )
    for step in range(2):
        losses = [float(task.loss(step, 0).loss.detach()) for task in (heard, kept)]
        assert losses[0] == pytest.approx(losses[1], rel=2e-3)
    assert len(list((folder / "runs" / ".cache").glob("features-train-*"))) >= 1
    with torch.no_grad():
        assert kept.validate()["loss"] == pytest.approx(heard.validate()["loss"], rel=2e-3)


NARROW = {
    "quantizer": {**PARTS["quantizer"], "output_dim": 8},
    "decoder": {**PARTS["decoder"], "input_dim": 8},
}


@pytest.mark.parametrize(
    ("name", "options", "recipe", "message"),
    [
        (
            "train_decoder",
            {},
            {"decoder": {**PARTS["decoder"], "hop_samples": 320}},
            r"the encoder gives 50 frames .* At 24000 Hz its hop has to be 480",
        ),
        ("train_decoder", {"teacher": {"dim": 32}}, {}, r"train_decoder\.teacher: output_dim is 32, the "),
        (
            "train_codec_joint",
            {"teacher": {"strides": [10, 16]}},
            {},
            r"hop_samples is 160, the .* has 320",
        ),
        ("train_codec_joint", {}, NARROW, r"gives features of width 8, .* Leave out `quantizer\.output_dim`"),
        ("train_quantizer", {"quantizer_weights": {"entropi": 1}}, {}, r"names entropi, but the quantizer's"),
        ("train_quantizer", {"teacher": {}}, {}, r"train_quantizer.*teacher"),
        (
            "finetune_decoder",
            {"adversarial": {"init": "train_quantizer"}},
            {},
            r"reads train_quantizer/discriminators, which no earlier stage leaves",
        ),
        ("train_quantizer", {"starts_from": "train_lm"}, {}, r"reads train_lm/codec, which no earlier"),
        ("train_decoder", {"teacher": "train_quantizer"}, {}, r"reads train_quantizer/encoder, which no "),
        ("train_decoder", {"spectral_floor": 1e-3}, {}, r"spectral_floor belongs to spectral_windows, which"),
        (
            "train_decoder",
            {"spectral_windows": [510]},
            {},
            r"must be multiples of 4 and at least 64 .* \[510\]",
        ),
    ],
)
def test_what_does_not_fit_is_told_before_anything_runs(
    folder: Path,
    stages: dict[str, dict[str, Any]],
    name: str,
    options: dict[str, Any],
    recipe: dict[str, Any],
    message: str,
) -> None:
    if isinstance(options.get("teacher"), dict):
        options = {"teacher": {**taught_run.WAVLM, **options["teacher"]}}
    first, second = ({"run": one, **stages[one]} for one in ("train_quantizer", name))
    with pytest.raises(RecipeError, match=message):
        check(make_context(folder, first, {**second, **options}, **recipe).recipe)


def test_a_decoder_hears_the_spectrograms_that_are_asked_for(
    folder: Path, stages: dict[str, dict[str, Any]]
) -> None:
    options = {"spectral_windows": [256, 512], "spectral_floor": 1e-3}
    task = task_of(folder, "train_decoder", **alone(stages["train_decoder"]), **options)
    loud, quiet = 0.1 * torch.randn(2, 1, 8000)
    expected = MelLoss(task.rate_out, window_samples=[256, 512], floor=1e-3)
    assert float(task.spectral(loud, quiet)) == float(expected(loud, quiet))
    published = task_of(folder, "train_decoder", **alone(stages["train_decoder"]))
    assert isinstance(published.spectral, LogMelDistance)


def test_a_corpus_without_an_utterance_as_long_as_a_crop(
    folder: Path, stages: dict[str, dict[str, Any]]
) -> None:
    options = {**stages["train_decoder"], "crop_seconds": 3.0}
    message = r"crop_seconds is 3, but the longest utterance of split 'train' lasts 2\.00 s\. Lower"
    with pytest.raises(DataError, match=message):
        task_of(folder, "train_decoder", **options)


def test_discriminators_are_no_codec_and_checkpoints_are_a_stages_own(
    folder: Path, stages: dict[str, dict[str, Any]], done: tuple[StageContext, Any]
) -> None:
    run_dir = done[0].run_dir
    options = {**stages["train_decoder"], "adversarial": {"init": str(run_dir / "codec")}}
    with pytest.raises(CheckpointError, match=r"codec holds no discriminators"):
        task_of(folder, "train_decoder", **options)
    stage = {"run": "train_quantizer", **stages["train_quantizer"]}
    context = make_context(folder, stage, name="other")
    shutil.copytree(run_dir / "checkpoints/train_decoder", context.run_dir / "checkpoints/train_quantizer")
    with pytest.raises(CheckpointError, match=r"holds decoder, discriminators, but this stage trains quant"):
        taught_run.run_stages(context)


def test_a_collapsed_codebook_is_said_with_figures(
    folder: Path, stages: dict[str, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    task = task_of(folder, "train_quantizer", **stages["train_quantizer"])
    last = task.codec.quantizer.compressor.out_proj
    with torch.no_grad():
        last.weight.zero_()
        task.validate()
    said = "the codebook collapses: 1 of 64 codes occur in 151 tokens, with an entropy of 0.00 of 6.00 bits"
    assert said in caplog.text


def test_losses_that_are_not_finite_end_training_by_name(
    folder: Path, stages: dict[str, dict[str, Any]]
) -> None:
    stage = {"run": "train_decoder", **stages["train_decoder"], "lr": 1e30, "show_every": 100}
    message = r"the loss of discriminators was not finite in 10 steps in a row.*: train/\d\.wav@\d\.\d\ds"
    with pytest.raises(TrainingError, match=message):
        taught_run.run_stages(make_context(folder, stage, name="infinite"))


def test_what_is_published_is_the_default() -> None:
    context = make_context(Path("nowhere"), *({"run": name, "steps": 9} for name in STAGES))
    decoder, quantizer, joint, finetune = context.recipe.stages
    for one in (decoder, finetune):
        assert (one.lr, one.betas, one.weight_decay, one.clip_norm) == (4e-4, (0.8, 0.99), 0.01, None)
        assert (one.batch_size, one.crop_seconds, one.longest_seconds, one.spectral_weight) == (32, 3, 60, 45)
        assert one.precision == "fp32"
    for one in (quantizer, joint):
        assert (one.lr, one.betas, one.weight_decay, one.clip_norm) == (5e-5, (0.9, 0.98), 0.01, 5)
        assert (one.batch_size, one.schedule, one.select, one.longest_seconds) == (16, "plateau", "best", 320)
        assert one.precision == "fp32"
    left_out = context.recipe.to_dict()["stages"][0]
    assert not {"teacher", "adversarial", "starts_from"} & left_out.keys()


register_fakes()
SMALL = {"steps": 2, "batch_size": 2, "crop_seconds": 0.2, "log_every": 1}
TAUGHT = {**SMALL, "teacher": {"name": "fake"}}
TestTrainDecoder = contract_tests(TrainDecoderConfig.model_validate(TAUGHT))
TestTrainQuantizer = contract_tests(TrainQuantizerConfig.model_validate(SMALL))
TestTrainCodecJoint = contract_tests(TrainCodecJointConfig.model_validate(TAUGHT))
TestFinetuneDecoder = contract_tests(FinetuneDecoderConfig.model_validate(SMALL))
