"""The shipped recipe end to end, cut down: every stage leaves what it promises, and the model learns."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run_command
from wavslm_core.data.audio import read_audio

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "wavslm_tiny.yaml"
SHORT = [
    "data.minutes=6",
    "data.valid_minutes=0.5",
    "quantizer.codebook_size=256",
    "backbone.num_layers=1",
    "quantizer.entropy_group_bits=8",
    "stages.train_codec.steps=60",
    "stages.train_codec.continuous_steps=20",
    "stages.train_codec.validate_every=60",
    "stages.train_codec.valid_utterances=4",
    "stages.train_lm.steps=40",
    "stages.train_lm.batch_size=8",
    "stages.train_lm.validate_every=20",
    "stages.generate.prompts=1",
    "stages.generate.new_seconds=1",
]


def results(folder: Path, stage: str) -> Any:
    return json.loads((folder / "results" / f"{stage}.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("main_job")
    run_command("wavslm-run", RECIPE, *SHORT, cwd=place)
    (folder,) = (place / "runs").glob("wavslm_tiny-*")
    return folder


def test_it_learns(finished: Path) -> None:
    scores = results(finished, "evaluate")["language_model"]
    marks = {mark["name"]: mark["bits_per_token"] for mark in scores["baselines"]}
    assert scores["bits_per_token"] < marks["unigram"] - 0.1
    assert marks["trigram"] < marks["unigram"]
    codec = results(finished, "evaluate")["codec"]
    assert codec["metrics"]["stoi"]["mean"] > 0.5
    assert codec["codebook"]["train"]["used"] > 64


def test_another_head_takes_over_the_codec_and_knows_more(finished: Path) -> None:
    head = "head={name: chunk_autoregressive, embedding: bits, output: linear}"
    done = run_command(
        "wavslm-run", RECIPE, *SHORT, head, "name=other_head", "--reuse", cwd=finished.parents[1]
    )
    assert f"train_codec, tokenize: taken over from {finished.name}" in done.stdout
    assert "stage train_codec: running" not in done.stdout
    (other,) = finished.parent.glob("other_head-*")
    weights = "codec/model.safetensors"
    assert (other / weights).read_bytes() == (finished / weights).read_bytes()
    bits = [results(run, "evaluate")["language_model"]["bits_per_token"] for run in (finished, other)]
    assert bits[1] < bits[0]


def test_shuffled_targets_teach_nothing_but_frequencies(finished: Path, tmp_path: Path) -> None:
    """The same model on permuted tokens stays at the unigram, far behind."""
    run_command(
        "wavslm-run",
        RECIPE,
        *SHORT,
        f"codec.checkpoint={finished / 'codec'}",
        "encoder=null",
        "quantizer=null",
        "decoder=null",
        "stages.train_lm.control=shuffled_tokens",
        "stages=[{run: tokenize}, {run: train_lm, steps: 40, batch_size: 8, crop_tokens: 256, lr: 2.0e-3,"
        " control: shuffled_tokens, validate_every: 20}]",
        cwd=tmp_path,
    )
    (folder,) = (tmp_path / "runs").glob("wavslm_tiny-*")
    shuffled = results(folder, "train_lm")["valid"]
    trained = results(finished, "train_lm")["valid"]
    assert trained["bits_per_token"] < shuffled["bits_per_token"] - 0.1


def test_everything_is_there_to_hear_and_see(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert page.count("<audio") >= 4
    assert "trigram" in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page), "the page must need nothing but itself"
    (sample,) = (finished / "samples").glob("00_*")
    original = read_audio(sample / "original.wav")
    continued = read_audio(sample / "continuation_0.wav")
    assert continued.numel() >= 2.9 * 16000
    assert 0.003 < continued.square().mean().sqrt().item() < 0.5
    assert original.numel() > 0
    assert (sample / "spectrograms.png").stat().st_size > 10_000
    assert list((finished / "tensorboard").rglob("events.*"))
