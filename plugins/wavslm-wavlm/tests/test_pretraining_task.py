"""Crops and their clusters belong together; what is learnt is context; numbers say what they say they do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, cast

import melodies
import numpy as np
import pytest
import torch

from wavslm_core.plugin import Batching, StageContext
from wavslm_wavlm.pretraining.clusters import Clusters
from wavslm_wavlm.pretraining.features import Cepstra
from wavslm_wavlm.pretraining.task import UNKNOWN, HiddenBatch, MaskedPrediction, cluster_figure

MakeContext = Callable[..., StageContext]
MakeTask = Callable[[StageContext], MaskedPrediction]


@pytest.fixture(scope="module")
def stage_context(tmp_path_factory: pytest.TempPathFactory) -> MakeContext:
    folder = tmp_path_factory.mktemp("task")
    seconds = {"train": [2.0, 1.7, 0.4, 2.3, 0.03], "valid": [1.5, 0.9, 0.02, 2.1]}
    melodies.write_melodies(folder, seconds)

    def make(**options: Any) -> StageContext:
        return cast(StageContext, melodies.make_context(folder, {**melodies.STAGE, **options}))

    return make


@pytest.fixture
def task_of() -> Iterator[MakeTask]:
    made: list[MaskedPrediction] = []

    def make(context: StageContext) -> MaskedPrediction:
        stage = melodies.make_stage(context)
        made.append(stage.make_task(stage.build_model(context), context))
        return made[-1]

    yield make
    for task in made:
        task.close()


def test_labels_are_the_clusters_of_the_clean_crop(stage_context: MakeContext, task_of: MakeTask) -> None:
    context = stage_context(mixing={"probability": 1.0})
    task = task_of(context)
    clusters = Clusters.load(context.place("clusters"))
    features = Cepstra(task.encoder, normalized=False)
    changed = set()
    for step in range(8):
        batch = cast(HiddenBatch, task.batch(step, 0))
        for crop, heard_S, labels_T, masked_T in zip(
            batch.crops, batch.waveforms, batch.labels, batch.masked, strict=True
        ):
            whole_S = task.train.load(crop.utterance, sample_rate_hz=16000)
            assert crop.start % 320 == 0
            clean_S = whole_S[crop.start : crop.start + 16000]
            changed.add(not torch.equal(heard_S, clean_S))
            (rows_TF,) = features([whole_S])
            frames = int(task.encoder.frame_lengths(torch.tensor(len(clean_S))))
            start = crop.start // 320
            assert np.array_equal(labels_T, clusters.nearest(rows_TF)[start : start + frames])
            assert masked_T.shape == labels_T.shape
            assert masked_T.any()
    assert True in changed


def test_what_an_item_is_depends_on_nothing_but_its_place(
    stage_context: MakeContext, task_of: MakeTask
) -> None:
    context = stage_context()
    whole, (first, second) = task_of(context), (task_of(context), task_of(context))
    first.batching = Batching(micro_batch_size=4, seed=3, rank=0, world_size=2)
    second.batching = Batching(micro_batch_size=4, seed=3, rank=1, world_size=2)
    for part in (first, second):
        part._order = part._order.with_batching(part.batching)
    together = cast(HiddenBatch, whole.batch(2, 0))
    parts = [cast(HiddenBatch, part.batch(2, 0)) for part in (first, second)]
    for name in ("waveforms", "labels", "masked"):
        apart = [item for part in parts for item in getattr(part, name)]
        assert all(
            np.array_equal(one, other) for one, other in zip(getattr(together, name), apart, strict=True)
        )


def test_the_loss_weighs_hidden_and_heard_frames(stage_context: MakeContext, task_of: MakeTask) -> None:
    losses = {}
    for weight in (0.0, 1.0, 1e9):
        task = task_of(stage_context(heard_weight=weight))
        output = task.loss(0, 0)
        losses[weight] = output.loss.item()
        batch = cast(HiddenBatch, task.batch(0, 0))
        hidden = sum(
            int((mask & (labels != UNKNOWN)).sum())
            for mask, labels in zip(batch.masked, batch.labels, strict=True)
        )
        heard = sum(map(len, batch.labels)) - hidden
        assert output.weight == pytest.approx(hidden + weight * heard)
    mean = (hidden * losses[0.0] + heard * losses[1e9]) / (hidden + heard)
    assert losses[1.0] == pytest.approx(mean, rel=1e-5)


@pytest.mark.slow
def test_context_is_learnt(stage_context: MakeContext) -> None:
    context = stage_context(
        steps=120, warmup_steps=10, heard_weight=1.0, validate_every=120, mixing={"probability": 0.1}
    )
    melodies.make_stage(context).run(context)
    results = json.loads((context.run_dir / "results/pretrain_encoder.json").read_text())
    valid = results["valid"]
    assert valid["masked_accuracy"] > valid["chance"] + 0.2
    assert valid["masked_accuracy"] > valid["copying"]
    assert valid["heard_accuracy"] > 0.6
    assert 1 < valid["cluster_perplexity"] <= 6
    assert valid["loss"] < np.log(6)


def test_validation_counts_what_is_predicted(stage_context: MakeContext, task_of: MakeTask) -> None:
    task = task_of(stage_context())
    with torch.no_grad():
        valid = task.validate()
        scores = task._scores([0, 3])
        alone = [task._scores([index])[0] for index in (0, 3)]
    assert 0.1 < valid["chance"] < 0.9
    labels_N = np.concatenate([task.labels["valid"].tokens(index) for index in range(4)])
    shares_K = np.bincount(labels_N) / len(labels_N)
    entropy = -(shares_K[shares_K > 0] * np.log(shares_K[shares_K > 0])).sum()
    assert valid["cluster_perplexity"] == pytest.approx(np.exp(entropy))
    for one, score in zip(alone, scores, strict=True):
        assert np.array_equal(one.masked_T, score.masked_T)
        np.testing.assert_allclose(one.nats_T, score.nats_T, atol=1e-4)
    cluster_figure(task.valid.load(0, sample_rate_hz=16000), scores[0], frame_s=0.02)


def test_frames_beyond_the_known_clusters_count_nothing(
    stage_context: MakeContext, task_of: MakeTask
) -> None:
    task = task_of(stage_context())
    known = task._clusters("train", 0, 1600, 16000)
    beyond = task._clusters("train", 0, 99 * 320, 16000)
    assert (known != UNKNOWN).all()
    assert (beyond[:1] == UNKNOWN).sum() == 0 or (beyond == UNKNOWN).all()
    assert len(beyond) == len(known)
