"""The shipped recipes end to end, cut down: every stage leaves what it promises, and the models learn."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support import Command, run_here
from wavslm_core.data.audio import read_audio

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
TINY, SCRATCH = RECIPES / "wavslm_tiny.yaml", RECIPES / "wavslm_scratch.yaml"
SHORT = [
    "data.minutes=6",
    "data.valid_minutes=0.5",
    "backbone.num_layers=1",
    "stages.train_lm.batch_size=8",
    "stages.generate.prompts=1",
    "stages.generate.new_seconds=1",
]
SHORT_TINY = [
    *SHORT,
    "stages.train_lm.steps=24",
    "stages.train_lm.lr=0.004",
    "stages.train_lm.warmup_steps=4",
    "stages.train_lm.validate_every=12",
    "stages.score_suites.suites=[{name: tiny_salmon, pairs: 4}]",
]
SHORT_SCRATCH = [
    *SHORT,
    "stages.train_lm.steps=40",
    "stages.train_lm.validate_every=20",
    "quantizer.codebook_size=256",
    "quantizer.entropy_group_bits=8",
    "stages.train_codec.steps=60",
    "stages.train_codec.continuous_steps=20",
    "stages.train_codec.validate_every=60",
    "stages.train_codec.valid_utterances=4",
]


def results(folder: Path, stage: str) -> Any:
    return json.loads((folder / "results" / f"{stage}.json").read_text())


def marks(folder: Path) -> dict[str, float]:
    """Return the bits per token of the model ("model") and of each n-gram."""
    scores = results(folder, "evaluate")["language_model"]
    counted = {mark["name"]: mark["bits_per_token"] for mark in scores["baselines"]}
    return {"model": scores["bits_per_token"], **counted}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("main_job")
    judged = ["stages.evaluate.continuations.count=2", "stages.generate.metrics=[]"]
    run_here("wavslm-run", TINY, *SHORT_TINY, *judged, cwd=place)
    (folder,) = (place / "runs").glob("wavslm_tiny-*")
    return folder


def test_it_learns(finished: Path) -> None:
    bits = marks(finished)
    assert bits["model"] < bits["unigram"] - 0.1
    assert bits["trigram"] < bits["unigram"]
    assert results(finished, "evaluate")["codec"]["metrics"]["stoi"]["mean"] > 0.7


def test_what_it_says_and_what_speakers_said_is_judged(finished: Path) -> None:
    """A share of no words is none: so early in training, it may say nothing."""
    judged = results(finished, "evaluate")["continuations"]
    share, rate = (judged["metrics"][f"vocabulary{name}"] for name in ("", "_words_per_second"))
    assert (rate["count"], rate["failed"], share["failed"]) == (2, 0, 0)
    assert share["count"] == sum(bool(heard["estimate"]["vocabulary"]) for heard in judged["heard"])
    assert share["original"]["count"] == 2
    assert share["original"]["mean"] > 0
    assert rate["original"]["mean"] > 1


def test_shuffled_targets_teach_nothing_but_frequencies(finished: Path, run: Command) -> None:
    """The same model on permuted tokens stays at the unigram, far behind."""
    run(
        "wavslm-run",
        TINY,
        *SHORT_TINY,
        "name=shuffled",
        "--reuse",
        "stages=[{run: tokenize}, {run: train_lm, steps: 24, batch_size: 8, crop_tokens: 256, lr: 4.0e-3,"
        " warmup_steps: 4, control: shuffled_tokens, validate_every: 12}]",
        cwd=finished.parents[1],
    )
    (folder,) = finished.parent.glob("shuffled-*")
    shuffled = results(folder, "train_lm")["valid"]
    trained = results(finished, "train_lm")["valid"]
    assert trained["bits_per_token"] < shuffled["bits_per_token"] - 0.1


def test_everything_is_there_to_hear_and_see(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert page.count("<audio") >= 4
    assert "trigram" in page
    assert "tiny_salmon" in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page), "the page must need nothing but itself"
    (sample,) = (finished / "samples").glob("00_*")
    original = read_audio(sample / "original.wav")
    continued = read_audio(sample / "continuation_0.wav")
    assert continued.numel() >= 2.9 * 16000
    assert 0.003 < continued.square().mean().sqrt().item() < 0.5
    assert original.numel() > 0
    assert (sample / "spectrograms.png").stat().st_size > 10_000
    assert list((finished / "tensorboard").rglob("events.*"))


@pytest.fixture(scope="module")
def from_nothing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("scratch")
    run_here("wavslm-run", SCRATCH, *SHORT_SCRATCH, cwd=place)
    (folder,) = (place / "runs").glob("wavslm_scratch-*")
    return folder


def test_a_codec_is_learnt_from_nothing_and_a_language_model_over_it(from_nothing: Path) -> None:
    bits = marks(from_nothing)
    assert bits["model"] < bits["unigram"] - 0.1
    assert bits["trigram"] < bits["unigram"]
    scored = results(from_nothing, "evaluate")["codec"]
    assert scored["metrics"]["stoi"]["mean"] > 0.5
    assert scored["codebook"]["train"]["used"] > 64


def test_another_head_takes_over_the_codec_and_knows_more(from_nothing: Path, run: Command) -> None:
    head = "head={name: chunk_autoregressive, embedding: bits, output: linear}"
    done = run(
        "wavslm-run", SCRATCH, *SHORT_SCRATCH, head, "name=other_head", "--reuse",
        cwd=from_nothing.parents[1],
    )  # fmt: skip
    assert f"train_codec, tokenize: taken over from {from_nothing.name}" in done.stdout
    assert "stage train_codec: running" not in done.stdout
    (other,) = from_nothing.parent.glob("other_head-*")
    weights = "codec/model.safetensors"
    assert (other / weights).read_bytes() == (from_nothing / weights).read_bytes()
    assert marks(other)["model"] < marks(from_nothing)["model"]
