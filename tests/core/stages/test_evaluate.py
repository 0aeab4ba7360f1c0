"""Stage evaluate: real numbers, on a run with a codec alone and on one with a language model."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wavslm_core.data import corpora
from wavslm_core.data.audio import write_audio
from wavslm_core.data.corpora import Split
from wavslm_core.data.token_store import TokenStore
from wavslm_core.errors import DataError
from wavslm_core.evaluation.language_scores import language_scores, token_bits, token_stores
from wavslm_core.evaluation.reconstruction import score_reconstruction
from wavslm_core.model.codec import Codec
from wavslm_core.parts.plugins import load_registry
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.context import StageContext
from wavslm_core.stages.evaluate import Evaluate, EvaluateConfig
from wavslm_core.stages.report import Report, ReportConfig


def evaluated(context: StageContext, **options: Any) -> dict[str, Any]:
    Evaluate(EvaluateConfig(**options)).run(context)
    text = (context.run_dir / "results" / "evaluate.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    document: dict[str, Any] = json.loads(text)
    return document


def test_codec_alone(codec_only: StageContext) -> None:
    results = evaluated(codec_only, utterances=4)
    assert "language_model" not in results
    codec = results["codec"]
    assert codec["utterances"] == 4
    assert codec["metrics"]["mel_distance"]["mean"] > 0
    assert 0 <= codec["metrics"]["stoi"]["mean"] < 1
    assert codec["metrics"]["stoi"]["interval"] >= 0
    assert set(codec["metrics"]["mel_distance"]["by_speaker"]) == {"anna", "ben"}
    assert set(codec["codebook"]) == {"valid"}
    assert 0 < codec["codebook"]["valid"]["used"] <= codec["vocab_size"] == 32


def test_batching_changes_no_score(codec_only: StageContext) -> None:
    pytest.importorskip("pystoi")
    codec, split = codec_only.codec(), codec_only.split("valid")
    from wavslm_core.evaluation.config import metric_configs

    metrics = {
        config.registered_name(): load_registry().build(config)
        for config in metric_configs(["mel_distance", "stoi"])
    }
    indices = [0, 2, 3, 5]
    together = score_reconstruction(codec, split, indices, metrics, batch_seconds=60)
    alone = score_reconstruction(codec, split, indices, metrics, batch_seconds=0.001)
    for name in metrics:
        pairs = [[found.values[name] for found, _ in scores] for scores in (together, alone)]
        np.testing.assert_allclose(*pairs, rtol=1e-4)


def test_a_recording_that_metrics_cannot_judge_costs_no_other(
    codec_only: StageContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shorter than a frame of STOI, a single sample, and one whose file goes while others are read."""
    pytest.importorskip("pystoi")
    corpus = tmp_path / "audio" / "valid"
    for name, samples in {"a": 16000, "b": 20000, "blip": 400, "click": 1, "gone": 16000}.items():
        write_audio(corpus / f"{name}.wav", torch.rand(samples) - 0.5, 16000)
    data = {"corpus": "folder", "path": str(corpus.parent)}
    document = {**codec_only.recipe.to_dict(), "data": data}
    context = replace(codec_only, recipe=resolve(recipe_from_dict(document)))
    load = Split.load

    def load_all_but_one(split: Split, index: int, **options: Any) -> torch.Tensor:
        (corpus / "gone.wav").unlink(missing_ok=True)
        return load(split, index, **options)

    monkeypatch.setattr(Split, "load", load_all_but_one)
    metrics = evaluated(context)["codec"]["metrics"]
    assert (metrics["stoi"]["count"], metrics["stoi"]["failed"]) == (2, 1)
    assert (metrics["mel_distance"]["count"], metrics["mel_distance"]["failed"]) == (4, 1)
    (failure,) = metrics["stoi"]["failures"]
    assert failure["id"] == "valid/gone.wav"
    Report(ReportConfig()).run(context)
    text = (context.run_dir / "report.html").read_text(encoding="utf-8")
    assert "STOI failed on 1: valid/gone.wav (" in text


def test_language_model(with_model: StageContext) -> None:
    language = evaluated(with_model, metrics=["mel_distance"])["language_model"]
    store = TokenStore.open(with_model.place("tokens/valid"))
    chunk = language["chunk_tokens"]
    assert chunk == 4
    assert language["tokens"] == int((store.lengths - chunk).clip(min=0).sum())
    assert len(language["bits_by_place"]) == chunk
    assert set(language["by_speaker"]) == {"anna", "ben"}
    assert language["bits_per_second"] == pytest.approx(50 * language["bits_per_token"])
    names = [mark["name"] for mark in language["baselines"]]
    assert names == ["unigram", "bigram", "trigram", "bigram, same context", "trigram, same context"]
    # An untrained model knows less than the token counts do.
    assert all(mark["bits_per_token"] < language["bits_per_token"] for mark in language["baselines"])


def test_what_was_heard_stands_beside_what_was_heard_in_the_originals(with_model: StageContext) -> None:
    options = {"count": 2, "metrics": ["syllables"]}
    results = evaluated(
        with_model,
        utterances=3,
        metrics=["mel_distance", "syllables"],
        continuations={**options, "prompt_seconds": 0.5, "seconds": 0.5},
        chunk_ahead=options,
    )
    codec, said, ahead = results["codec"], results["continuations"], results["chunk_ahead"]
    for scores, count in ((codec, 3), (said, 2), (ahead, 2)):
        found = scores["metrics"]["syllables"]
        assert found["count"] == found["original"]["count"] == found["difference"]["count"] == count
        assert found["failed"] == 0
        difference = found["mean"] - found["original"]["mean"]
        assert found["difference"]["mean"] == pytest.approx(difference)
        assert len(scores["heard"]) == count
        assert all("<la>" in item["original"]["syllables"] for item in scores["heard"])
    assert "original" not in codec["metrics"]["mel_distance"]


def test_splits_that_metrics_learn_from_are_needed(recipe: object) -> None:
    assert set(EvaluateConfig(split="test").needed_splits()) == {"test"}
    metrics = EvaluateConfig(split="test", metrics=["syllables"])
    said = EvaluateConfig(split="test", continuations={"metrics": ["syllables"]})
    assert set(metrics.needed_splits()) == set(said.needed_splits()) == {"test", "train"}


def test_bits_are_the_models_own(with_model: StageContext) -> None:
    """Padding, batching and the change of base, against one utterance scored by hand."""
    speech_lm = with_model.speech_lm()
    store = TokenStore.open(with_model.place("tokens/valid"))
    utterances = [store.tokens(index) for index in range(len(store))]
    bits = token_bits(speech_lm, utterances, batch_tokens=300)
    for tokens, found in zip(utterances, bits, strict=True):
        with torch.no_grad():
            expected = -speech_lm.log_probs(torch.from_numpy(tokens)[None])[0].numpy() / math.log(2)
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_baseline_tokens_bound_what_is_counted(with_model: StageContext) -> None:
    speech_lm = with_model.speech_lm()
    stores = token_stores(with_model, speech_lm.codec, "train", "valid")
    some, none = (
        language_scores(
            speech_lm, with_model, stores, split="valid", baseline_tokens=count, batch_tokens=4096
        )
        for count in (300, 0)
    )
    assert 0 < some["baseline_tokens"] <= 300
    assert none["baselines"] == []
    assert none["bits_per_token"] == some["bits_per_token"]


def test_splits_are_opened_and_weights_are_read_once(
    with_model: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second reading of the weights is the language model's, which asks whether this is its codec."""
    context = replace(with_model)
    opened: list[str] = []
    fingerprints: list[Codec] = []
    open_split, fingerprint = corpora.open_split, Codec.fingerprint

    def opening(data: Any, name: str, **options: Any) -> Split:
        opened.append(name)
        return open_split(data, name, **options)

    def reading(codec: Codec) -> dict[str, Any]:
        fingerprints.append(codec)
        return fingerprint(codec)

    monkeypatch.setattr(corpora, "open_split", opening)
    monkeypatch.setattr(Codec, "fingerprint", reading)
    evaluated(context, metrics=["mel_distance"], utterances=2)
    assert sorted(opened) == ["train", "valid"]
    assert len(fingerprints) == 2
    assert fingerprints[0] is fingerprints[1]


def test_tokens_of_another_codec_are_refused(with_model: StageContext) -> None:
    from wavslm_core.testing.fakes import fake_codec

    torch.manual_seed(9)
    fake_codec().save(with_model.codec_dir)
    with pytest.raises(DataError, match="stale"):
        evaluated(with_model, metrics=["mel_distance"])


def test_missing_tokens_name_the_stage(codec_only: StageContext) -> None:
    from wavslm_core.testing.fakes import fake_speech_lm

    fake_speech_lm(codec_only.codec()).save(codec_only.speech_lm_dir)
    with pytest.raises(DataError, match="run: tokenize"):
        evaluated(codec_only, metrics=[])


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (["stoy"], "Did you mean 'stoi'"),
        ([{"name": "stoi", "extendet": True}], "extended"),
        ([{"name": "mel_distance", "mel_bands": 0}], "greater than 0"),
        (["stoi", "stoi"], "twice"),
    ],
)
def test_wrong_metrics_are_named(recipe: object, metrics: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluateConfig(metrics=tuple(metrics))
