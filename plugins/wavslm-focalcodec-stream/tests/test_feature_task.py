"""What a teacher says of crops, padding and utterances that are too long, and which teachers do not fit."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import taught_run
import torch
from torch import nn

from wavslm_core.data.audio import resample
from wavslm_core.errors import DataError, RecipeError
from wavslm_core.model.codec import Codec
from wavslm_core.parts.interfaces import Encoder
from wavslm_focalcodec_stream.feature_task import FeatureTask
from wavslm_focalcodec_stream.teacher import TaughtConfig, load_teacher

SECONDS = {"train": [0.5, 1.37, 2.0, 0.9], "valid": [0.61, 1.0]}


class Config(TaughtConfig):
    run: Literal["taught"] = "taught"
    steps: int = 4
    batch_size: int = 3
    crop_seconds: float = 0.4


class Taught(FeatureTask[Config]):
    @property
    def modules(self) -> dict[str, nn.Module]:
        return {}

    def validate(self) -> dict[str, float]:
        return {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taught")
    taught_run.write_tones(folder / "audio", SECONDS)
    return folder


@pytest.fixture
def make_task(folder: Path) -> Callable[..., Taught]:
    def make(
        *, layers: Any = None, rate_out: int | None = None, augment: Any = None, **options: Any
    ) -> Taught:
        data = {"corpus": "folder", "path": str(folder / "audio"), "augment": augment}
        context = taught_run.make_context(folder, data=data)
        config = Config(teacher=taught_run.WAVLM, **options)
        codec = Codec.from_configs(context.recipe.part_configs)
        return Taught(
            codec,
            load_teacher(config, codec, context),
            train=context.split("train"),
            valid=context.split("valid"),
            config=config,
            batching=config.batching(context),
            layers=layers,
            rate_out=rate_out,
        )

    return make


@pytest.mark.parametrize("layers", [None, (0, 2)])
def test_the_teacher_hears_the_whole_utterance_of_each_crop(
    make_task: Callable[..., Taught], layers: Any
) -> None:
    task = make_task(layers=layers, rate_out=24000)
    teacher: Encoder[Any] = task.teacher
    assert not any(weight.requires_grad for weight in teacher.parameters())
    for step in range(2):
        batch = task.taught(step, 0)
        assert task.taught(step, 0) is batch
        for row, crop in enumerate(batch.crops):
            assert crop.start % 320 == 0
            whole_1S = task.train.load(crop.utterance, sample_rate_hz=16000)[None]
            samples = int(batch.lengths_B[row])
            assert torch.equal(
                batch.waveform_BS[row, :samples], whole_1S[0, crop.start : crop.start + samples]
            )
            assert len(batch.targets[row]) == samples * 3 // 2
            states = [teacher(whole_1S)] if layers is None else teacher.hidden_states(whole_1S)  # type: ignore[operator]
            expected = states if layers is None else [states[layer] for layer in layers]
            first, frames = crop.start // 320, int(batch.frame_lengths_B[row])
            assert frames == min(samples // 320, expected[0].shape[1] - first)
            for found_BTD, whole_1TD in zip(batch.features, expected, strict=True):
                torch.testing.assert_close(
                    found_BTD[row, :frames], whole_1TD[0, first : first + frames], rtol=1e-4, atol=1e-5
                )
    task.close()


@pytest.mark.parametrize("rate_out", [16000, 24000])
def test_teacher_student_and_decoder_hear_the_same_noise(
    make_task: Callable[..., Taught], monkeypatch: pytest.MonkeyPatch, rate_out: int
) -> None:
    noise = {"noise": {"probability": 1, "snr_db": [0, 0]}, "gain": {"probability": 1}}
    task, clean = make_task(rate_out=rate_out, augment=noise), make_task(rate_out=rate_out)
    heard: list[torch.Tensor] = []
    monkeypatch.setattr(
        task, "teach", lambda wave_BS, lengths_B: (heard.append(wave_BS), clean.teach(wave_BS, lengths_B))[1]
    )
    batch, before = task.taught(0, 0), clean.taught(0, 0)
    (whole_BS,) = heard
    for row, crop in enumerate(batch.crops):
        samples = int(batch.lengths_B[row])
        assert samples == int(before.lengths_B[row])
        assert torch.equal(batch.waveform_BS[row, :samples], whole_BS[row, crop.start : crop.start + samples])
        assert not torch.allclose(batch.waveform_BS[row], before.waveform_BS[row], atol=1e-3)
        target_S = batch.targets[row]
        assert len(target_S) == len(before.targets[row])
        again_S = resample(target_S, rate_out, 16000)[200 : samples - 200]
        away_S = again_S - batch.waveform_BS[row, 200 : samples - 200]
        # At 24 kHz noise goes on above 8 kHz, where resampling ends gently.
        assert away_S.square().mean() < 0.01 * again_S.square().mean()
    for each in (task, clean):
        each.close()


def test_what_is_longer_than_the_teacher_hears_is_left_out(
    make_task: Callable[..., Taught], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        task = make_task(longest_seconds=0.95)
    assert {crop.utterance for step in range(9) for crop in task.crops(step, 0)} == {0, 3}
    assert task.valid_indices == [0]
    assert "2 of 4 utterances of split 'train' are left out: they are longer than 0.95 s" in caplog.text
    with pytest.raises(DataError, match=r"every utterance of split 'train' is longer than 0\.1 s\. Cut"):
        make_task(longest_seconds=0.1)


def test_a_teacher_that_does_not_fit_is_told_before_the_first_step(folder: Path) -> None:
    context = taught_run.make_context(folder)
    config = Config(teacher={**taught_run.WAVLM, "dim": 32, "num_layers": 1})
    message = (
        r"taught: teacher: output_dim is 32, the codec's encoder has 16; layers are 1, .* has 2\. "
        r"Give the teacher the sizes of the codec's encoder"
    )
    with pytest.raises(RecipeError, match=message):
        load_teacher(config, Codec.from_configs(context.recipe.part_configs), context)
