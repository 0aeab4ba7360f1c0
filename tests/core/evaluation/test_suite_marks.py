"""N-grams beside the model in suites: the same tokens, recountable numbers, and nothing of another codec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.core.data.test_token_store import write_store
from tests.core.evaluation.test_ngrams import markov_utterances
from tests.core.evaluation.test_pair_scores import ToySuite, ToySuiteConfig, toy_model, toy_suite
from wavslm_core.data.audio import read_audio, write_audio
from wavslm_core.data.token_store import token_fingerprint
from wavslm_core.errors import DataError
from wavslm_core.evaluation.line_folder import read_whole_lines
from wavslm_core.evaluation.ngrams import TokenSequences
from wavslm_core.evaluation.pair_scores import PairScore
from wavslm_core.evaluation.suite_evaluation import evaluate_suites
from wavslm_core.evaluation.suite_marks import SMOOTHING, Marks, training_tokens
from wavslm_core.parts.backoff import BackoffModel

VOCAB_SIZE, CHUNK = 7, 4


def evaluated(folder: Path, out: str, marks: Marks | None) -> dict[str, Any]:
    suite = ToySuite(ToySuiteConfig(path=str(folder / "audio")))
    results = evaluate_suites(
        toy_model(), {"toy": suite}, folder / out, reference="toy", cache_dir=folder / ".cache", marks=marks
    )
    assert results is not None
    return results


def test_a_mark_scores_what_the_model_predicts() -> None:
    train = TokenSequences.join(markov_utterances(VOCAB_SIZE, 40, seed=1))
    marks = Marks.count(train, vocab_size=VOCAB_SIZE, chunk_tokens=CHUNK)
    assert [*marks.ngrams] == ["unigram", "trigram", "trigram, same context"]
    assert [*Marks.count(train, vocab_size=VOCAB_SIZE, chunk_tokens=1).ngrams] == ["unigram", "trigram"]
    assert f"{train.tokens_N.size:,} of its codec's training tokens" in marks.in_words()
    rows = [np.array([1, 2, 3, 4, 5, 6, 0, 1, 2]), np.array([3, 3]), np.array([6, 5, 4, 3, 2])]
    lags = {
        "unigram": lambda place: (),
        "trigram": lambda place: (1, 2),
        "trigram, same context": lambda place: (place % CHUNK + 1, place % CHUNK + 2),
    }
    for name, seen in lags.items():
        found = marks.scorer(name)(rows)
        assert [row.size for row in found] == [9, 2, 5]
        for row, tokens in zip(found, rows, strict=True):
            assert np.isnan(row[:CHUNK]).all()
            for place in range(CHUNK, len(tokens)):
                back = seen(place)
                model = BackoffModel(
                    train.tokens_N,
                    train.context(back, nothing=VOCAB_SIZE),
                    vocab_size=VOCAB_SIZE,
                    smoothing=SMOOTHING,
                )
                context = np.array([[tokens[place - lag] for lag in back]], np.int64).reshape(1, len(back))
                assert row[place] == pytest.approx(np.log(model.probabilities(tokens[[place]], context))[0])


def test_marks_stand_beside_and_can_be_recounted(tmp_path: Path) -> None:
    """An n-gram that has read positives, which never move, knows them among noises."""
    toy_suite(tmp_path / "audio", items=12)
    for file in sorted((tmp_path / "audio").glob("*-good.wav")):
        write_audio(file, 0.3 * torch.ones(read_audio(file).numel()), 16_000)
    without = evaluated(tmp_path, "without", None)
    assert without["marks"] is None
    assert "marks" not in without["suites"]["toy"]
    speech_lm = toy_model()
    lines = [
        json.loads(line)
        for file in (tmp_path / ".cache" / "suite_tokens").rglob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    tokens = {line["digest"]: np.array(line["tokens"]) for line in lines}
    pairs = [*read_whole_lines(tmp_path / "without" / "pairs.jsonl", PairScore)]
    train = TokenSequences.join(tokens[pair.positive.digest] for pair in pairs)
    size = speech_lm.codec.facts.quantizer.vocab_size
    marks = Marks.count(train, vocab_size=size, chunk_tokens=speech_lm.chunk_tokens)
    results = evaluated(tmp_path, "out", marks)
    found = results["suites"]["toy"]
    assert found["numbers"] == without["suites"]["toy"]["numbers"]
    assert found["marks"]["trigram"]["all"]["mean"]["mean"] == 100
    assert found["marks"].keys() == marks.ngrams.keys()
    for name, file in (("trigram", "trigram"), ("trigram, same context", "trigram_same_context")):
        recounted = [*read_whole_lines(tmp_path / "out" / "marks" / f"{file}.jsonl", PairScore)]
        assert [pair.id for pair in recounted] == [pair.id for pair in pairs]
        for score in ("mean", "localised"):
            values = [pair.values(score) for pair in recounted if score == "mean" or pair.split_s]
            credits = [(a > b) + 0.5 * (a == b) for a, b in values]
            key = "all" if score == "mean" else "voice=b"
            # Two voices an item, or one: the mean over items is that over pairs.
            assert found["marks"][name][key][score]["mean"] == pytest.approx(100 * np.mean(credits))
    page = (tmp_path / "out" / "table.md").read_text()
    assert "| Toy | all pairs | model |" in page
    assert "| Toy | all pairs | trigram, same context |" in page
    assert (
        "|  | items | pairs | mean per token | sum | localised | normalised | by item | unigram | trigram |"
        in page
    )
    assert page.count(marks.in_words()) == 2


def test_training_tokens_are_those_of_the_codec(tmp_path: Path) -> None:
    codec = toy_model().codec
    utterances = [np.array([1, 2, 3]), np.array([4, 5]), np.array([6])]
    own = token_fingerprint(codec.fingerprint(), {"corpus": "any"})
    write_store(tmp_path / "run" / "tokens" / "train", [utterances], fingerprint=own)
    for place in (tmp_path / "run", tmp_path / "run" / "tokens" / "train"):
        assert training_tokens(place, codec).tokens_N.tolist() == [1, 2, 3, 4, 5, 6]
    assert training_tokens(tmp_path / "run", codec, most=5).tokens_N.tolist() == [1, 2, 3, 4, 5]
    assert training_tokens(tmp_path / "run", codec, most=1).tokens_N.tolist() == [1, 2, 3]
    with pytest.raises(DataError, match="are stale: they were made with codec"):
        training_tokens(tmp_path / "run", toy_model(seed=1).codec)
    with pytest.raises(DataError, match="holds no tokens; give the folder of a run"):
        training_tokens(tmp_path, codec)
