"""Clusters follow from the seed, are found again, and are written once for each frame."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import melodies
import numpy as np
import pytest
import torch
from torch import Tensor

from wavslm_core.plugin import CheckpointError, DataError, Interrupted, StageContext, WavslmError
from wavslm_wavlm.config import WavLMConfig
from wavslm_wavlm.encoder import WavLM
from wavslm_wavlm.pretraining import clusters as module
from wavslm_wavlm.pretraining.clusters import Clusters, cluster_labels, fit_clusters
from wavslm_wavlm.pretraining.features import Cepstra


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> StageContext:
    folder = tmp_path_factory.mktemp("clusters")
    melodies.write_melodies(folder, {"train": [1.0, 0.7, 1.3, 0.4, 0.9], "valid": [0.5]})
    context: StageContext = melodies.make_context(folder)
    return context


class Counted(Cepstra):
    """Counts the waveforms that it has heard."""

    heard = 0

    def __call__(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        self.heard += len(waveforms)
        return super().__call__(waveforms)


@pytest.fixture
def features() -> Counted:
    return Counted(WavLM(WavLMConfig(**melodies.WAVLM)), normalized=False)


def fit(
    features: Cepstra, context: StageContext, *, count: int = 6, seed: int = 0, frames: int = 1000
) -> Clusters:
    split = context.split("train")
    return fit_clusters(features, split, count=count, frames=frames, hop_samples=320, seed=seed)


def test_they_follow_from_the_seed(features: Counted, context: StageContext) -> None:
    first, again, other = fit(features, context), fit(features, context), fit(features, context, seed=1)
    assert first.centroids_KF.shape == (6, 39)
    assert first.digest == again.digest != other.digest


def test_only_as_many_utterances_are_heard_as_are_asked_for(features: Counted, context: StageContext) -> None:
    fit(features, context, frames=20)
    assert features.heard == 1


def test_the_nearest_is_found_and_comes_back_from_disk(tmp_path: Path) -> None:
    clusters = Clusters(torch.randn(5, 7, generator=torch.Generator().manual_seed(0)))
    rows_TF = torch.randn(50, 7, generator=torch.Generator().manual_seed(1))
    expected = torch.cdist(rows_TF, clusters.centroids_KF).argmin(1).numpy()
    clusters.save(tmp_path / "clusters")
    assert np.array_equal(Clusters.load(tmp_path / "clusters").nearest(rows_TF), expected)
    other = Clusters(torch.zeros(3))
    other.save(tmp_path / "clusters")
    with pytest.raises(CheckpointError, match=r"holds no clusters\. Delete it"):
        Clusters.load(tmp_path / "clusters")


def test_labels_are_made_once_and_an_interruption_costs_a_shard(
    features: Counted, context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD_MINUTES", 0.02)
    monkeypatch.setattr(module, "BATCH_SECONDS", 1.0)
    clusters, split = fit(features, context), context.split("train")
    features.heard = 0
    polls = iter([False] * 3 + [True])
    stopped = replace(context, stop_requested=lambda: next(polls))
    with pytest.raises(Interrupted):
        cluster_labels(clusters, features, split, stopped, hop_samples=320)
    assert 0 < features.heard < 5
    store = cluster_labels(clusters, features, split, context, hop_samples=320)
    heard = features.heard
    assert len(store) == 5
    assert heard < 10
    for index in range(5):
        (rows_TF,) = features([split.load(index, sample_rate_hz=16000)])
        assert np.array_equal(store.tokens(index), clusters.nearest(rows_TF))
    heard = features.heard
    again = cluster_labels(clusters, features, split, context, hop_samples=320)
    assert features.heard == heard
    assert again.folder == store.folder
    others = cluster_labels(fit(features, context, seed=1), features, split, context, hop_samples=320)
    assert others.folder != store.folder


def test_what_cannot_be_clustered_is_told(
    features: Counted, context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"500 clusters are asked for, but there are only 2\d\d frames"):
        fit(features, context, count=500)
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(WavslmError, match=r"need scikit-learn: pip install 'wavslm-wavlm\[pretraining\]'"):
        fit(features, context)
