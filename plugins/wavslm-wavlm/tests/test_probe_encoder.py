"""Stage probe_encoder: lines find what is there, and nothing where there is nothing."""

from __future__ import annotations

import json
from pathlib import Path

import melodies
import numpy as np
import pytest
import torch

from wavslm_core.plugin import CheckpointError, Encoder, StageContext, load_registry, save_encoder
from wavslm_wavlm.config import WavLMConfig
from wavslm_wavlm.encoder import WavLM
from wavslm_wavlm.pretraining.probe_encoder import split_in_two
from wavslm_wavlm.pretraining.probes import read_sounds, read_speakers, sounds_of

HALVES = (range(0, 20, 2), range(1, 20, 2))


def rows(seed: int, frames: int = 30) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {index: torch.randn(frames, 8, generator=generator) for index in range(20)}


def test_speakers_are_read_out_of_means() -> None:
    speakers = {index: "ab"[index // 10] for index in range(20)}
    heard = rows(0)
    for index in range(10):
        heard[index][:, 3] += 5.0
    reading = read_speakers(heard, speakers, HALVES)
    assert reading is not None
    assert reading.accuracy.mean >= 0.9
    assert (reading.accuracy.count, reading.classes) == (10, 2)
    assert reading.chance == 0.5
    assert reading.taught == 10
    unheard = read_speakers(rows(1), speakers, HALVES)
    assert unheard is not None
    assert unheard.accuracy.mean < 0.9
    assert read_speakers(heard, dict.fromkeys(range(20)), HALVES) is None
    assert read_speakers(heard, dict.fromkeys(range(20), "a"), HALVES) is None


def test_sounds_are_read_out_of_frames() -> None:
    heard = rows(0)
    sounds = {index: ((x[:, 2] > 0) + 2 * (x[:, 5] > 0)).long().numpy() for index, x in heard.items()}
    reading = read_sounds(heard, sounds, HALVES, frames=200)
    assert reading.taught == 200
    assert reading.classes == 4
    assert reading.accuracy.mean > 0.8 > 0.4 > reading.chance
    blind = read_sounds(rows(1), sounds, HALVES, frames=1000)
    assert blind.taught == 300
    assert abs(blind.accuracy.mean - blind.chance) < 0.12
    shorter = {index: x[:-1] for index, x in heard.items()}
    assert read_sounds(shorter, sounds, HALVES, frames=1000).taught == 290


def test_sounds_are_clusters_of_the_half_that_teaches() -> None:
    cepstra = {index: rows_TF + 20 * (index % 2) for index, rows_TF in rows(0).items()}
    sounds = sounds_of(cepstra, HALVES, count=5, seed=0)
    assert len(np.unique(np.concatenate([sounds[index] for index in HALVES[0]]))) == 5
    assert len(np.unique(np.concatenate([sounds[index] for index in HALVES[1]]))) < 5


@pytest.fixture
def context(tmp_path: Path) -> StageContext:
    melodies.write_melodies(tmp_path, {"train": [1.0], "valid": [1.0, 0.8, 0.9, 0.7, 0.8, 1.1, 0.6, 0.5]})
    stage = {"run": "probe_encoder", "sounds": 4, "frames": 100}
    context: StageContext = melodies.make_context(tmp_path, {**melodies.STAGE}, stage)
    context.stage_name = "probe_encoder"
    return context


def put(context: StageContext, encoder: Encoder[WavLMConfig]) -> None:
    save_encoder(context.run_dir / "encoder", encoder)


def test_it_compares_with_random_weights(context: StageContext) -> None:
    torch.manual_seed(0)
    deaf = WavLM(WavLMConfig(**melodies.WAVLM))
    for weight in deaf.feature_proj.parameters():
        weight.data.zero_()
    put(context, deaf)
    melodies.make_stage(context).run(context)
    results = json.loads((context.run_dir / "results/probe_encoder.json").read_text())
    sound = results["probes"]["sound"]
    assert sound["untrained"]["accuracy"]["mean"] > sound["trained"]["accuracy"]["mean"] + 0.2
    assert sound["trained"]["accuracy"]["mean"] < sound["trained"]["chance"] + 0.1
    assert {name: found["classes"] for name, found in results["probes"]["speaker"].items()} == {
        "trained": 2,
        "untrained": 2,
    }
    (table,) = results["tables"]
    assert [row[:2] for row in table["rows"]] == [
        ["Speaker of an utterance", "trained"],
        ["Speaker of an utterance", "untrained"],
        ["Sound of a frame", "trained"],
        ["Sound of a frame", "untrained"],
    ]


def test_each_half_knows_each_speaker(context: StageContext) -> None:
    split = context.split("valid")
    halves = split_in_two(split, list(range(8)))
    assert sorted([*halves[0], *halves[1]]) == list(range(8))
    for half in halves:
        assert sorted(str(split.utterances[index].speaker) for index in half) == ["a", "a", "b", "b"]


def test_other_encoders_are_refused(context: StageContext) -> None:
    registry = load_registry()
    put(context, registry.build(registry.entry("encoder", "mel").config_class()))
    with pytest.raises(CheckpointError, match="encoder is a 'mel', but a `wavlm` is probed"):
        melodies.make_stage(context).run(context)
