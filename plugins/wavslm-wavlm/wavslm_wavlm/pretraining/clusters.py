"""Clusters of clean speech: k-means of features, and the cluster of every frame of a split, kept on disk."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wavslm_core.plugin import (
    WEIGHTS_FILE,
    CheckpointError,
    DataError,
    Interrupted,
    ShardRecord,
    Split,
    StageContext,
    TokenStore,
    TokenWriter,
    WavslmError,
    divide,
    json_digest,
    length_batches,
    plan_digest,
    plan_shards,
    progress_bar,
    read_folder,
    replacing_folder,
    write_document,
    write_weights,
)
from wavslm_wavlm.config import SAMPLE_RATE_HZ
from wavslm_wavlm.pretraining.config import INSTALL_SKLEARN
from wavslm_wavlm.pretraining.features import ClusteredFeatures

CENTROIDS = "centroids"
BATCH_SECONDS = 60.0
"""Audio whose features are computed at once, padding included."""
SHARD_MINUTES = 30.0
"""Audio of which an interruption costs the labels."""
MINI_BATCH_FRAMES, STARTS = 10_000, 20
"""Of k-means, as in HuBERT (2106.07447)."""

Advance = Callable[[float], None]


def sklearn(module: str) -> Any:
    """Import a module of scikit-learn. Raises: WavslmError when it is not installed."""
    try:
        return import_module(f"sklearn.{module}")
    except ImportError as error:
        raise WavslmError(f"k-means and probes need scikit-learn: {INSTALL_SKLEARN}") from error


class Clusters:
    """The centroids (K,F)."""

    def __init__(self, centroids_KF: Tensor) -> None:
        self.centroids_KF = centroids_KF

    @property
    def count(self) -> int:
        return len(self.centroids_KF)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.centroids_KF.numpy().tobytes()).hexdigest()[:16]

    def nearest(self, rows_TF: Tensor) -> npt.NDArray[np.int64]:
        """Return the cluster (T,) of each row."""
        offsets_K = self.centroids_KF.square().sum(1) / 2
        found: npt.NDArray[np.int64] = (rows_TF @ self.centroids_KF.T - offsets_K).argmax(1).numpy()
        return found

    def save(self, folder: Path) -> None:
        with replacing_folder(folder) as beside:
            write_document(beside, {"format": "wavslm-clusters", "clusters": self.count})
            write_weights(beside, {CENTROIDS: self.centroids_KF})

    @classmethod
    def load(cls, folder: Path) -> Clusters:
        """Raises: CheckpointError when the folder holds no clusters."""
        weights = read_folder(folder, WEIGHTS_FILE)
        if set(weights) != {CENTROIDS} or weights[CENTROIDS].ndim != 2:
            raise CheckpointError(f"{folder} holds no clusters. Delete it to make them anew")
        return cls(weights[CENTROIDS])


def fit_clusters(
    features: ClusteredFeatures,
    split: Split,
    *,
    count: int,
    frames: int,
    hop_samples: int,
    seed: int,
    stop_requested: Callable[[], bool] = lambda: False,
) -> Clusters:
    """Fit k-means to about so many `frames` of whole utterances, drawn at random.

    The same for the same seed, on the same number of threads. Raises: WavslmError, DataError, Interrupted.
    """
    # Before anything takes minutes.
    sklearn("cluster")
    order = np.random.default_rng(seed).permutation(len(split.utterances))
    ends_s = np.cumsum(split.durations_s[order])
    wanted_s = frames * hop_samples / SAMPLE_RATE_HZ
    members = order[: int(np.searchsorted(ends_s, wanted_s)) + 1].tolist()
    with progress_bar(
        "Features for k-means", total=min(wanted_s, float(ends_s[-1])), unit="s audio"
    ) as advance:
        found = dict(computed(features, split, members, advance, stop_requested))
    return k_means(torch.cat([found[index] for index in members]), count=count, seed=seed)


def k_means(rows_NF: Tensor, *, count: int, seed: int) -> Clusters:
    """Return clusters of rows. Raises: WavslmError without scikit-learn; DataError for too few rows."""
    if len(rows_NF) < count:
        raise DataError(
            f"{count} clusters are asked for, but there are only {len(rows_NF)} frames to cluster. Ask for "
            "fewer clusters, or give more speech"
        )
    fitted = sklearn("cluster").MiniBatchKMeans(
        count, batch_size=MINI_BATCH_FRAMES, n_init=STARTS, random_state=seed
    )
    fitted.fit(rows_NF.numpy())
    return Clusters(torch.from_numpy(np.asarray(fitted.cluster_centers_, np.float32)))


def cluster_labels(
    clusters: Clusters, features: ClusteredFeatures, split: Split, context: StageContext, *, hop_samples: int
) -> TokenStore:
    """Return the cluster of every frame, utterance by utterance; what the cache lacks of it is made first.

    Processes share the work. Raises: Interrupted, after which what is done is kept; AudioError; DataError.
    """
    fingerprint = {
        "clusters": clusters.digest,
        "features": features.fingerprint,
        "corpus": split.corpus.fingerprint(split.name),
    }
    folder = context.cache_dir / f"clusters-{split.name}-{json_digest(fingerprint)}"
    shards = plan_shards(split.utterances, shard_minutes=SHARD_MINUTES)
    writer = TokenWriter(
        folder,
        fingerprint=fingerprint,
        plan=plan_digest(split.utterances, shards),
        shards=len(shards),
        vocab_size=clusters.count,
        token_rate_hz=SAMPLE_RATE_HZ / hop_samples,
        align=1,
    )
    missing = context.processes.broadcast(writer.missing())
    seconds = sum(float(split.durations_s[list(shards[number])].sum()) for number in missing)
    total = seconds / context.world_size
    with progress_bar(f"Clusters of {split.name}", total=total, unit="s audio") as advance:

        def label(number: int) -> None:
            started = time.monotonic()
            members = list(shards[number])
            rows = computed(features, split, members, advance, context.stop_requested)
            labels = {index: clusters.nearest(rows_TF) for index, rows_TF in rows}
            record = ShardRecord(
                ids=[split.utterances[index].id for index in members],
                lengths=[len(labels[index]) for index in members],
                rejected=[],
                audio_seconds=float(split.durations_s[members].sum()),
                work_seconds=time.monotonic() - started,
            )
            writer.write(number, [labels[index] for index in members], record)

        divide(context.processes, missing, label, stop_requested=context.stop_requested)
    if context.rank == 0:
        writer.finish()
    context.processes.barrier()
    return TokenStore.open(folder, expect=fingerprint)


def computed(
    features: ClusteredFeatures,
    split: Split,
    members: Sequence[int],
    advance: Advance,
    stop_requested: Callable[[], bool],
) -> Iterator[tuple[int, Tensor]]:
    """Yield utterances with their features, in batches of similar length.

    Raises: Interrupted once it is asked to stop; AudioError.
    """
    milliseconds = np.round(1000 * split.durations_s[list(members)]).astype(np.int64)
    for places in length_batches(milliseconds, budget=round(1000 * BATCH_SECONDS)):
        if stop_requested():
            raise Interrupted("stopped while computing features; finished shards are kept")
        batch = [members[place] for place in places]
        rows = features([split.load(index, sample_rate_hz=SAMPLE_RATE_HZ) for index in batch])
        yield from zip(batch, rows, strict=True)
        advance(float(split.durations_s[batch].sum()))
