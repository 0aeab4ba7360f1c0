"""Distillation lowers what it should, leaves alone what it should, goes on where it was killed, and says what
does not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import taught_run
import torch

from wavslm_core.errors import CheckpointError, RecipeError
from wavslm_core.model.codec import Codec
from wavslm_core.model.folders import load_encoder, save_encoder
from wavslm_core.parts.blocks import config_from_dict
from wavslm_core.parts.plugins import load_registry
from wavslm_core.recipe.checks import check
from wavslm_core.run.context import StageContext
from wavslm_core.run.metrics_file import read_metrics
from wavslm_core.stages.tokenize import TokenizeConfig
from wavslm_core.stages.train_codec import TrainCodecConfig
from wavslm_core.testing import contract_tests
from wavslm_focalcodec_stream.distillation import DistillEncoder
from wavslm_focalcodec_stream.distillation_config import DistillEncoderConfig, DistillPositionalConfig
from wavslm_focalcodec_stream.distillation_task import DistillationTask, layered

SECONDS = {"train": [0.4, 0.77, 1.1, 0.9, 0.6], "valid": [0.51, 0.8, 1.0]}


@pytest.fixture(autouse=True)
def _gradients() -> Any:
    with torch.enable_grad():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings, and a run whose stage `pretrain` has left a teacher."""
    folder = tmp_path_factory.mktemp("distilled")
    taught_run.write_tones(folder / "audio", SECONDS)
    torch.manual_seed(1)
    save_encoder(
        folder / "teacher", load_registry().build(config_from_dict("encoder", taught_run.WAVLM, where=""))
    )
    return folder


@pytest.fixture(scope="module")
def stages(folder: Path) -> list[dict[str, Any]]:
    teacher = {**taught_run.WAVLM, "checkpoint": str(folder / "teacher")}
    common = {"batch_size": 4, "teacher": teacher, "validate_every": 20, "log_every": 10}
    return [
        {"run": "distill_positional", "steps": 20, "lr": 3e-2, **common},
        {"run": "distill_encoder", "steps": 40, "lr": 1e-2, **common},
    ]


@pytest.fixture(scope="module")
def done(folder: Path, stages: list[dict[str, Any]]) -> tuple[StageContext, Any]:
    """Both stages, run."""
    context = taught_run.make_context(folder, *stages, name="done")
    check(context.recipe)
    with torch.enable_grad():
        return context, taught_run.run_stages(context)


def test_each_output_comes_at_least_twice_as_close_to_the_teacher(done: tuple[StageContext, Any]) -> None:
    context, results = done
    for stage, outputs in (
        ("distill_positional", ["positional"]),
        ("distill_encoder", ["layer_1", "layer_2"]),
    ):
        assert list(results[stage]["mse"]) == outputs
        for mse in results[stage]["mse"].values():
            assert mse["distilled"] < 0.5 * mse["undistilled"]
            assert mse["relative"] < 0.8
    weighted = [
        weight * mse["distilled"]
        for weight, mse in zip((0.5, 1), results["distill_encoder"]["mse"].values(), strict=True)
    ]
    assert results["distill_encoder"]["valid"]["loss"] == pytest.approx(sum(weighted) / 2)
    assert (context.run_dir / "codec").is_dir()


def test_what_is_said_of_each_layer_is_what_the_saved_encoder_gives(
    done: tuple[StageContext, Any], folder: Path
) -> None:
    """Utterance by utterance, without batches, padding or tasks."""
    context, results = done
    student, teacher = Codec.load(context.run_dir / "codec").encoder, load_encoder(folder / "teacher")
    undistilled = load_registry().build(student.config)
    undistilled.adopt(teacher)
    split = context.split("valid")
    for layer in (1, 2):
        errors: dict[str, list[torch.Tensor]] = {"distilled": [], "undistilled": []}
        wanted = []
        for index in range(3):
            waveform_1S = split.load(index, sample_rate_hz=16000)[None]
            with torch.no_grad():
                expected_1TD = teacher.hidden_states(waveform_1S)[layer]
                for name, encoder in (("distilled", student), ("undistilled", undistilled)):
                    found_1TD = encoder.hidden_states(waveform_1S)[layer][:, : expected_1TD.shape[1]]
                    errors[name].append((found_1TD - expected_1TD).square()[0])
            wanted.append(expected_1TD[0])
        said = results["distill_encoder"]["mse"][f"layer_{layer}"]
        for name, parts in errors.items():
            assert said[name] == pytest.approx(float(torch.cat(parts).mean()), rel=1e-4)
        variance = torch.cat(wanted).var(0, correction=0).mean()
        assert said["relative"] == pytest.approx(said["distilled"] / float(variance), rel=1e-4)


def test_only_what_is_trained_changes(done: tuple[StageContext, Any], folder: Path) -> None:
    context, _ = done
    teacher = load_encoder(folder / "teacher").state_dict()
    first, last = (Codec.load(context.run_dir / place) for place in ("distill_positional/codec", "codec"))
    positional = first.encoder.state_dict()
    changed = {key for key, value in positional.items() if not torch.equal(value, teacher[key])}
    assert changed == {f"encoder.positional_embedding.conv.{name}" for name in ("weight", "bias")}
    final = last.encoder.state_dict()
    stayed = {key for key, value in final.items() if torch.equal(value, positional[key])}
    assert stayed == {*changed, "encoder.relative_embedding.weight"}
    for role in ("quantizer", "decoder"):
        other = getattr(first, role).state_dict()
        assert all(torch.equal(value, other[key]) for key, value in getattr(last, role).state_dict().items())
    held = [path.name for path in (context.run_dir / "checkpoints" / "distill_encoder").glob("step-*.pt")]
    assert held
    modules = torch.load(context.run_dir / "checkpoints/distill_encoder" / held[0], weights_only=True)[
        "modules"
    ]
    assert list(modules) == ["encoder"]


def test_pictures_and_curves_are_there(done: tuple[StageContext, Any]) -> None:
    context, _ = done
    lines = [
        line for line in read_metrics(context.run_dir / "metrics.jsonl") if line["stage"] == "distill_encoder"
    ]
    assert {"mse_layer_1", "mse_layer_2", "lr"} <= lines[0].keys()
    valid = [line for line in lines if line["split"] == "valid"]
    assert [line["step"] for line in valid] == [20, 40]
    assert len({line["undistilled_mse_layer_2"] for line in valid}) == 1
    written = [path.read_bytes() for path in context.run_dir.rglob("*tfevents*")]
    assert sum(b"features" in events for events in written) == 2


def task_of(context: StageContext, **options: Any) -> DistillationTask[Any]:
    """Return the task of the run's last stage."""
    name, config = context.recipe.named_stages()[-1]
    stage = context.recipe.registry.build(config.model_copy(update=options))
    here = replace(context, stage_name=name)
    task = stage.make_task(stage.build_model(here), here)
    assert isinstance(task, DistillationTask)
    return task


@pytest.mark.parametrize("which", [0, 1])
def test_padding_is_never_counted(
    folder: Path, stages: list[dict[str, Any]], which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(taught_run.make_context(folder, stages[which]))
    whole = task.loss(0, 0)
    outputs = taught_run.losses_of_items(task, monkeypatch)
    task.close()
    weight = sum(output.weight for output in outputs)
    assert weight == whole.weight == whole.tokens == sum(output.tokens for output in outputs)
    total = sum(float(output.loss.detach()) * output.weight for output in outputs)
    assert total / weight == pytest.approx(float(whole.loss.detach()), rel=1e-5)


@pytest.mark.parametrize("which", [0, 1])
def test_relative_errors_are_divided_by_the_variance_of_what_is_taught(
    folder: Path, stages: list[dict[str, Any]], which: int
) -> None:
    context = taught_run.make_context(folder, stages[which])
    plain, relative = (task_of(context, relative_error=flag) for flag in (False, True))
    teacher, valid = layered(plain.teacher), context.split("valid")
    with torch.no_grad():
        heard = [valid.load(index, sample_rate_hz=16000)[None] for index in range(len(valid.utterances))]
        if which == 0:
            taught = [[teacher.positional(teacher.positional_input(wave_1S))[0]] for wave_1S in heard]
        else:
            taught = [[state[0] for state in teacher.hidden_states(wave_1S)[1:]] for wave_1S in heard]
    variances = [torch.cat(layer).var(dim=0, correction=0).mean() for layer in zip(*taught, strict=True)]
    for task, scales in ((plain, torch.ones(len(variances))), (relative, torch.stack(variances))):
        output = task.loss(0, 0)
        mse_L = torch.stack([output.metrics[f"mse_{name}"] for name in task.weights])
        expected = (mse_L * torch.tensor(list(task.weights.values())) / scales).mean()
        torch.testing.assert_close(output.loss.detach(), expected, rtol=1e-4, atol=0)
        with torch.no_grad():
            found = task.validate()
        valid_L = torch.tensor([found[f"mse_{name}"] for name in task.weights])
        expected = (valid_L * torch.tensor(list(task.weights.values())) / scales).mean()
        assert found["loss"] == pytest.approx(float(expected), rel=1e-4)
        task.close()


@pytest.mark.parametrize("which", [0, 1])
def test_killed_at_a_random_step_it_ends_bit_equal(
    folder: Path, stages: list[dict[str, Any]], which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = {**stages[which], "steps": 6, "checkpoint_every": 2, "validate_every": 3, "accumulate": 2}
    whole = taught_run.make_context(folder, stage, name=f"whole-{which}")
    expected = taught_run.run_stages(whole)
    broken = taught_run.make_context(folder, stage, name=f"broken-{which}")
    found = taught_run.run_stages_once_killed(broken, DistillationTask, monkeypatch)
    name = stage["run"]
    assert found[name]["mse"] == expected[name]["mse"]
    weights = Codec.load(whole.run_dir / "codec").state_dict()
    again = Codec.load(broken.run_dir / "codec").state_dict()
    assert all(torch.equal(value, again[key]) for key, value in weights.items())


@pytest.mark.slow
def test_two_processes_compute_what_one_does(
    folder: Path, stages: list[dict[str, Any]], tmp_path: Path
) -> None:
    stage = {**stages[1], "steps": 4, "validate_every": 2, "select": "last", "lr": 1e-4}
    alone = taught_run.make_context(folder, stage, name="alone")
    expected = taught_run.run_stages(alone)["distill_encoder"]
    both = taught_run.run_in_two_processes(folder, tmp_path, stage)
    found = json.loads((both / "results/distill_encoder.json").read_text())
    for layer, mse in expected["mse"].items():
        assert found["mse"][layer] == pytest.approx(mse, rel=1e-5)
    weights = Codec.load(alone.run_dir / "codec").state_dict()
    for key, value in Codec.load(both / "codec").state_dict().items():
        if "qkv_proj.bias" in key:
            # What is added to all keys changes no attention: of its gradient, noise, Adam makes steps.
            value, weights[key] = (torch.cat([bias[:16], bias[32:]]) for bias in (value, weights[key]))
        torch.testing.assert_close(value, weights[key], rtol=0, atol=1e-6)


class DecoderAlone(TrainCodecConfig):
    """A stage that leaves a codec whose encoder it does not train."""

    trains: ClassVar[Any] = ("decoder",)


@pytest.mark.parametrize(
    ("before", "starts_from", "copies"),
    [
        ([], None, True),
        (["tokenize", "decoder"], None, True),
        (["decoder"], "train_codec", True),
        (["codec"], None, False),
        (["codec"], "train_codec", False),
        (["codec", "decoder"], None, False),
        (["decoder", "positional"], None, False),
        (["decoder", "positional"], "train_codec", True),
        (["decoder", "positional"], {"encoder": "distill_positional"}, False),
    ],
)
def test_the_student_is_a_copy_unless_what_it_starts_from_has_learnt(
    folder: Path, stages: list[dict[str, Any]], before: list[str], starts_from: Any, copies: bool
) -> None:
    known = {
        "tokenize": TokenizeConfig(),
        "codec": TrainCodecConfig(steps=1),
        "decoder": DecoderAlone(steps=1),
        "positional": DistillPositionalConfig(steps=1),
    }
    own = DistillEncoderConfig(steps=1, starts_from=starts_from)
    recipe = taught_run.make_recipe(folder).model_copy(
        update={"stages": (*(known[name] for name in before), own, TrainCodecConfig(steps=1))}
    )
    assert own.copies_teacher(recipe) == copies
    assert own.model_copy().copies_teacher(recipe, stage_name="distill_encoder") == copies
    assert (DistillEncoder(own).plan(recipe).get("starts from") == "a copy of the teacher") == copies


def test_a_copy_has_the_weights_of_the_teacher_and_a_checkpoint_its_own(
    folder: Path, stages: list[dict[str, Any]], done: tuple[StageContext, Any]
) -> None:
    blocks: dict[str, Any] = dict.fromkeys(("encoder", "quantizer", "decoder"))
    checkpoint = str(done[0].run_dir / "codec")
    for recipe in ({}, {"codec": {"checkpoint": checkpoint}, **blocks}):
        task = task_of(taught_run.make_context(folder, stages[1], name="start", **recipe))
        expected = Codec.load(checkpoint).encoder if recipe else task.teacher
        state = expected.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in task.student.state_dict().items())


def test_the_teacher_may_be_what_an_earlier_stage_left(folder: Path, stages: list[dict[str, Any]]) -> None:
    stage = {key: value for key, value in stages[1].items() if key != "teacher"}
    pretrain = {"run": "pretrain_encoder", "steps": 1}
    for teacher, place in (({}, "encoder"), ({"teacher": "pretrain_encoder"}, "pretrain_encoder/encoder")):
        before = [pretrain, pretrain] if teacher else [pretrain]
        context = taught_run.make_context(folder, *before, {**stage, **teacher}, name=f"after-{len(before)}")
        check(context.recipe)
        left = load_encoder(folder / "teacher")
        save_encoder(context.run_dir / place, left)
        found = task_of(context).teacher.state_dict()
        assert all(torch.equal(value, found[key]) for key, value in left.state_dict().items())
    context = taught_run.make_context(folder, stage, name="left")
    assert "teacher" not in context.recipe.to_dict()["stages"][0]
    message = r"distill_encoder reads encoder, which no earlier stage leaves: .* or give `teacher: {name"
    with pytest.raises(RecipeError, match=message):
        check(context.recipe)
    with pytest.raises(RecipeError, match=r"reads distill_encoder/encoder, which no earlier stage leaves"):
        check(taught_run.make_context(folder, stages[1], {**stage, "teacher": "distill_encoder"}).recipe)


@pytest.mark.parametrize(
    ("recipe", "stage", "message"),
    [
        (
            {},
            {"teacher": {"name": "wavlm", "num_layers": 1, "dim": 32}},
            r"distill_encoder\.teacher: output_dim is 32, the codec's encoder has 16; layers are 1, .* has 2",
        ),
        (
            {},
            {"teacher": {"name": "wavlm", "strides": [5]}},
            r"teacher: wavlm: hidden_dims, kernel_sizes and strides",
        ),
        ({}, {"teacher": 3}, r"teacher: given 3, but a block such as \{name: "),
        ({}, {"teacher": {"name": "fake"}}, r"teacher: 'fake' has no layers to learn from or to teach\. Use"),
        ({"encoder": {"name": "fake"}}, {}, r"encoder: the codec's encoder has no layers to learn from"),
        ({"causal": False}, {}, r"encoder: the codec's encoder has full context, .* Make it causal"),
        ({}, {"layer_weights": [1, 1, 1]}, r"layer_weights has 3 numbers, but the encoder has 2 layers"),
        ({}, {"layer_weights": [0, 0]}, r"layer_weights are all 0: nothing would be learnt"),
        ({"augment": {"gain": {}}}, {"teacher_cache": True}, r"teacher_cache: data\.augment changes what"),
        ({}, {"starts_from": "tokenize"}, r"reads tokenize/codec, which no earlier stage leaves"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_runs(
    folder: Path, stages: list[dict[str, Any]], recipe: dict[str, Any], stage: dict[str, Any], message: str
) -> None:
    if "causal" in recipe:
        recipe = {"encoder": taught_run.WAVLM}
    if "augment" in recipe:
        recipe = {"data": {"corpus": "folder", "path": str(folder / "audio"), **recipe}}
    if isinstance(stage.get("teacher"), dict) and "strides" not in stage["teacher"]:
        known = taught_run.WAVLM if stage["teacher"]["name"] == "wavlm" else {}
        stage = {"teacher": {**known, **stage["teacher"]}}
    with pytest.raises(RecipeError, match=message):
        check(taught_run.make_context(folder, {**stages[1], **stage}, **recipe).recipe)


def test_a_teacher_of_other_sizes_or_kind_ends_before_the_first_step(
    folder: Path, stages: list[dict[str, Any]], done: tuple[StageContext, Any]
) -> None:
    def start(**teacher: Any) -> None:
        stage = {**stages[1], "teacher": {**stages[1]["teacher"], **teacher}}
        task_of(taught_run.make_context(folder, stage, name="misfit"))

    message = r"the teacher does not fit .*: num_heads is 4 there and 2 here"
    with pytest.raises(CheckpointError, match=message):
        start(num_heads=4, num_layers=2, checkpoint=None)
    # Also where the student has learnt already, and is no copy.
    blocks: dict[str, Any] = dict.fromkeys(("encoder", "quantizer", "decoder"))
    stage = {**stages[1], "teacher": {**taught_run.WAVLM, "num_heads": 4}}
    codec = {"checkpoint": str(done[0].run_dir / "codec")}
    with pytest.raises(CheckpointError, match=message):
        task_of(taught_run.make_context(folder, stage, name="misfit", codec=codec, **blocks))
    with pytest.raises(CheckpointError, match=r"codec holds a codec, but an encoder is needed here"):
        start(checkpoint=str(done[0].run_dir / "codec"))
    with pytest.raises(CheckpointError, match=r"ffn_dim is 32 there and 8 here"):
        start(ffn_dim=8)


def test_layers_weigh_as_published() -> None:
    config = DistillEncoderConfig(steps=1)
    assert config.weights(6) == pytest.approx((0.5, 0.6, 0.7, 0.8, 0.9, 1))
    assert config.weights(3) == (0.5, 0.75, 1)
    assert config.weights(1) == (1,)
    assert (config.lr, DistillPositionalConfig(steps=1).lr) == (5e-5, 5e-4)
    assert (config.betas, config.weight_decay, config.clip_norm) == ((0.9, 0.98), 0.01, 5)
    assert (config.schedule, config.select, config.precision) == ("plateau", "best", "fp32")


def contract(config_class: Any) -> type:
    wavlm = {
        **{
            "name": "wavlm",
            "hidden_dims": [8],
            "kernel_sizes": [40],
            "strides": [320],
            "dim": 8,
            "ffn_dim": 8,
        },
        **{"num_heads": 2, "num_layers": 1, "num_buckets": 8, "max_distance": 8, "conv_pos": 4},
        **{"conv_pos_groups": 2, "window_size": 8},
    }
    student = config_from_dict("encoder", {**wavlm, "causal": True}, where="")
    options = {"steps": 2, "batch_size": 2, "crop_seconds": 0.2, "log_every": 1, "teacher": wavlm}
    return contract_tests(config_class.model_validate(options), parts={"encoder": student})


TestPositional = contract(DistillPositionalConfig)
TestEncoder = contract(DistillEncoderConfig)
