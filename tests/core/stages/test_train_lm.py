"""`train_lm` in a run: from audio files over `tokenize` to a model that loads and speaks."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests.support import FAKES
from wavslm_core.data.folder import FolderConfig
from wavslm_core.errors import CheckpointError, DataError
from wavslm_core.machine.processes import Interrupted
from wavslm_core.model.folders import save_encoder
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.parts.configs import Config
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import Entry, Registry
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import ResolvedRecipe
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.context import StageContext
from wavslm_core.run.metrics_file import read_metrics
from wavslm_core.stages.tokenize import Tokenize, TokenizeConfig
from wavslm_core.stages.train_lm import TrainLm, TrainLmConfig
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm, register_fakes
from wavslm_core.training.lm_task import LanguageModelTask
from wavslm_core.training.task import LossOutput

SMALL = {
    "steps": 40,
    "batch_size": 4,
    "lr": 1e-2,
    "crop_tokens": 32,
    "validate_every": 10,
    "checkpoint_every": 10,
    "show_every": 40,
    "warmup_steps": 2,
}


def core_entry(config_class: type[Config], target: str) -> Entry:
    return Entry(config_class.role, config_class.registered_name(), config_class, target, "core", "test")


def small_registry() -> Registry:
    """What these recipes name; the parts and the corpus also where stages look them up."""
    folder = core_entry(FolderConfig, "wavslm_core.data.folder:Folder")
    if "folder" not in load_registry().names("corpus"):
        load_registry().add(folder)
    register_fakes()
    registry = Registry()
    register_fakes(registry)
    registry.add(folder)
    registry.add(core_entry(TokenizeConfig, "wavslm_core.stages.tokenize:Tokenize"))
    registry.add(core_entry(TrainLmConfig, "wavslm_core.stages.train_lm:TrainLm"))
    return registry


def make_recipe(audio: Path, **train_lm: Any) -> ResolvedRecipe:
    document = {
        "name": "small",
        **FAKES,
        "data": {"corpus": "folder", "path": str(audio)},
        "stages": [{"run": "tokenize"}, {"run": "train_lm", **SMALL, **train_lm}],
    }
    return resolve(recipe_from_dict(document, registry=small_registry()))


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sweeps that repeat: the fake codec's tokens of them can be foreseen."""
    folder = tmp_path_factory.mktemp("audio")
    random = np.random.default_rng(0)
    for split, files in (("train", 12), ("valid", 4)):
        (folder / split).mkdir()
        for number in range(files):
            seconds = np.arange(int(16000 * random.uniform(0.8, 2.0))) / 16000
            tone = 0.5 * np.sin(2 * np.pi * 40 * seconds**2 * random.uniform(1, 3))
            soundfile.write(folder / split / f"{number}.wav", tone, 16000)
    return folder


def start_run(audio: Path, run_dir: Path, **options: Any) -> StageContext:
    recipe = make_recipe(audio, **options)
    context = StageContext(recipe=recipe, run_dir=run_dir)
    if not context.codec_dir.exists():
        torch.manual_seed(1)
        fake_codec().save(context.codec_dir)
        Tokenize(recipe.stages[0]).run(context)
    return context


def stop_after(steps: int) -> Callable[[], bool]:
    asked = count()
    return lambda: next(asked) >= steps


def train_lm_of(recipe: ResolvedRecipe) -> TrainLm:
    return TrainLm(recipe.stages[1])


def train(context: StageContext) -> dict[str, Any]:
    train_lm_of(context.recipe).run(context)
    return json.loads((context.run_dir / "results/train_lm.json").read_text())


def test_trains_saves_and_reports(audio: Path, tmp_path: Path) -> None:
    context = start_run(audio, tmp_path)
    result = train(context)
    model = context.speech_lm()
    assert result["steps"] == 40
    assert 1e7 < result["peak_memory_bytes"] < 1e11
    assert result["parameters"] == sum(p.numel() for p in model.parameters())
    assert result["valid"]["bits_per_token"] < 0.8 * 5
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    valid = {line["step"]: line["loss"] for line in lines if line["split"] == "valid"}
    assert result["selected_step"] == min(valid, key=lambda step: valid[step])
    assert result["valid"]["loss"] == pytest.approx(min(valid.values()))
    assert {"bits_at_1", "bits_at_4", "gap_bits", "train_bits_per_token"} <= set(result["valid"])
    new = model.generate(torch.zeros(1, 8, dtype=torch.int64), new_tokens=10, seed=0)
    assert new.shape == (1, 10)
    assert not any("codec" in path.name for path in context.speech_lm_dir.iterdir())


def test_shows_speech_in_tensorboard(audio: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    context = start_run(audio, tmp_path, steps=2)
    train(context)
    events = EventAccumulator(str(tmp_path / "tensorboard/train_lm"))
    events.Reload()
    assert set(events.Tags()["audio"]) == {"reconstruction", "continuation"}
    assert events.Tags()["images"] == ["spectrograms"]
    assert {"train/loss", "train/tokens_per_s", "valid/bits_per_token"} <= set(events.Tags()["scalars"])


def test_stopped_and_started_again_gives_the_same_model(audio: Path, tmp_path: Path) -> None:
    whole = start_run(audio, tmp_path / "whole")
    train(whole)
    stopped = start_run(audio, tmp_path / "stopped")
    for steps in (13, 11):
        stopped.stop_requested = stop_after(steps)
        with pytest.raises(Interrupted):
            train(stopped)
        assert not stopped.speech_lm_dir.exists()
    stopped.stop_requested = lambda: False
    train(stopped)
    ours, theirs = stopped.speech_lm().state_dict(), whole.speech_lm().state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_starts_from_given_weights(audio: Path, tmp_path: Path) -> None:
    first = start_run(audio, tmp_path / "first", steps=5)
    train(first)
    context = start_run(audio, tmp_path / "second", steps=5, init=str(first.speech_lm_dir))
    model = train_lm_of(context.recipe).build_model(context)
    trained = first.speech_lm().state_dict()
    assert all(torch.equal(value, trained[key]) for key, value in model.state_dict().items())


def test_a_second_stage_starts_from_what_the_first_left_whatever_its_codec(
    audio: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    document = make_recipe(audio, steps=2).to_dict()
    document["stages"] += [{**document["stages"][1], "lr": 0.001}]
    recipe = resolve(recipe_from_dict(document, registry=small_registry()))
    contexts = [StageContext(recipe, tmp_path, stage_name=name) for name in ("train_lm", "train_lm_2")]
    fake_codec().save(tmp_path / "codec")
    codec = contexts[0].codec()
    models = [train_lm_of(recipe).build_model(context, codec=codec) for context in contexts]
    models[0].save(contexts[0].speech_lm_dir)
    assert contexts[0].speech_lm_dir == tmp_path / "train_lm" / "speech_lm"
    assert models[0].checkpoint_codec == "../../codec"
    assert contexts[1].speech_lm_dir == tmp_path / "speech_lm"
    torch.manual_seed(9)
    other = fake_codec()
    start = train_lm_of(recipe).build_model(contexts[1], codec=other).state_dict()
    assert all(torch.equal(value, start[key]) for key, value in models[0].state_dict().items())
    assert "was trained with a codec whose encoder_weights, quantizer_weights differ" in caplog.text


def test_each_part_starts_from_the_stage_that_is_named(audio: Path, tmp_path: Path) -> None:
    document = make_recipe(audio, steps=2).to_dict()
    train_lm = document["stages"][1]
    document["stages"] += [
        {**train_lm, "lr": 0.01},
        {**train_lm, "starts_from": {"backbone": "train_lm", "head": "train_lm_2"}},
        {**train_lm, "starts_from": "train_lm"},
    ]
    recipe = resolve(recipe_from_dict(document, registry=small_registry()))
    fake_codec().save(tmp_path / "codec")
    stages = {name: config for name, config in recipe.named_stages() if isinstance(config, TrainLmConfig)}
    at = {name: StageContext(recipe, tmp_path, stage_name=name) for name in stages}
    models = []
    for seed, name in enumerate(("train_lm", "train_lm_2")):
        torch.manual_seed(seed)
        models.append(fake_speech_lm(at[name].codec()))
        models[-1].save(at[name].speech_lm_dir)
    mixed = TrainLm(stages["train_lm_3"]).build_model(at["train_lm_3"])
    first = TrainLm(stages["train_lm_4"]).build_model(at["train_lm_4"])
    wanted = [
        (mixed.backbone, models[0].backbone),
        (mixed.head, models[1].head),
        (first.head, models[0].head),
    ]
    for given, expected in wanted:
        state = given.state_dict()
        assert state
        assert all(torch.equal(value, state[key]) for key, value in expected.state_dict().items())


def test_a_head_starts_from_a_stage_beside_a_backbone_of_upper_layers(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = make_recipe(audio, steps=2).to_dict()
    train_lm = document["stages"][1]
    upper = {**train_lm, "starts_from": {"head": "train_lm"}, "upper_layers_of": "train_lm"}
    document["stages"].append(upper)
    recipe = resolve(recipe_from_dict(document, registry=small_registry()))
    codec = fake_codec()
    codec.save(tmp_path / "codec")
    at = {name: StageContext(recipe, tmp_path, stage_name=name) for name in ("train_lm", "train_lm_2")}
    torch.manual_seed(7)
    first = fake_speech_lm(codec)
    first.save(at["train_lm"].speech_lm_dir)
    save_encoder(tmp_path / "encoder", codec.encoder)
    left = {"train_lm/speech_lm": at["train_lm"].speech_lm_dir, "train_lm/encoder": tmp_path / "encoder"}
    monkeypatch.setattr(StageContext, "start", lambda self, path: left[path])
    adopted: list[str] = []
    monkeypatch.setattr(
        type(first.backbone), "adopt", lambda self, encoder: adopted.append(encoder.config.registered_name())
    )
    model = TrainLm(TrainLmConfig.model_validate(upper)).build_model(at["train_lm_2"])
    assert adopted == ["fake"]
    head = model.head.state_dict()
    assert all(torch.equal(value, head[key]) for key, value in first.head.state_dict().items())


def test_a_stage_that_trains_in_another_way_overrides_its_task_alone(audio: Path, tmp_path: Path) -> None:
    class Twice(LanguageModelTask):
        def loss(self, step: int, micro_batch: int) -> LossOutput:
            output = super().loss(step, micro_batch)
            return replace(output, loss=2 * output.loss)

    class TrainTwice(TrainLm):
        def make_task(self, model: SpeechLM, context: StageContext) -> LanguageModelTask:
            return Twice(model, **self.task_options(model, context))

    losses = []
    for number, stage_class in enumerate((TrainLm, TrainTwice)):
        context = start_run(audio, tmp_path / str(number), steps=1, log_every=1)
        stage_class(train_lm_of(context.recipe).config).run(context)
        assert context.speech_lm().backbone is not None
        losses += [line["loss"] for line in read_metrics(context.run_dir / "metrics.jsonl") if "lr" in line]
    assert losses[1] == pytest.approx(2 * losses[0])


def test_missing_initial_weights_are_named(audio: Path, tmp_path: Path) -> None:
    context = start_run(audio, tmp_path, init=str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match="nowhere"):
        train(context)


def test_tokens_of_another_codec_are_refused(audio: Path, tmp_path: Path) -> None:
    context = start_run(audio, tmp_path)
    torch.manual_seed(2)
    fake_codec().save(context.codec_dir)
    with pytest.raises(DataError, match=r"stale.*codec\.\w+_weights"):
        train(context)
    assert not (tmp_path / "checkpoints").exists()


def test_plan_names_the_work(audio: Path) -> None:
    recipe = make_recipe(audio, control="shuffled_tokens")
    plan = train_lm_of(recipe).plan(recipe)
    assert plan["steps"] == 40
    assert plan["tokens at most"] == 40 * 4 * 32
    assert plan["control"] == "shuffled_tokens"
