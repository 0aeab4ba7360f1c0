"""Linear probes: logistic regression on frozen features. Some utterances teach, others are asked."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wavslm_core.plugin import Estimate, Split, progress_bar, ratio_estimate
from wavslm_wavlm.pretraining.clusters import computed, k_means, sklearn
from wavslm_wavlm.pretraining.features import ClusteredFeatures

MOST_STEPS = 300
"""Of the solver."""

Halves = tuple[Sequence[int], Sequence[int]]
"""Utterances that teach, and those that are asked."""
Rows = Mapping[int, Tensor]
"""Utterance → (T,F)."""


@dataclass(frozen=True)
class Reading:
    """How much of it is right."""

    accuracy: Estimate
    chance: float
    """What always saying the most frequent one in the taught half gets right."""
    classes: int
    taught: int
    """Examples."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def rows_of(
    features: ClusteredFeatures,
    split: Split,
    indices: Sequence[int],
    what: str,
    stop_requested: Callable[[], bool],
) -> dict[int, Tensor]:
    """Return the features of utterances. Raises: Interrupted, AudioError."""
    seconds = float(split.durations_s[list(indices)].sum())
    with progress_bar(f"Probing: {what}", total=seconds, unit="s audio") as advance:
        return dict(computed(features, split, indices, advance, stop_requested))


def sounds_of(cepstra: Rows, halves: Halves, *, count: int, seed: int) -> dict[int, npt.NDArray[np.int64]]:
    """Return the sound (T,) of every frame: clusters that are fitted to the taught half."""
    clusters = k_means(torch.cat([cepstra[index] for index in halves[0]]), count=count, seed=seed)
    return {index: clusters.nearest(rows) for index, rows in cepstra.items()}


def read_speakers(rows: Rows, speakers: Mapping[int, str | None], halves: Halves) -> Reading | None:
    """Probe means over utterances for who speaks; None where fewer than two speakers are known."""
    known = [[index for index in half if speakers[index] is not None] for half in halves]
    taught_ND, asked_ND = (_stacked([rows[index].mean(0) for index in half]) for half in known)
    taught_N, asked_N = (np.array([speakers[index] for index in half]) for half in known)
    if len(np.unique(taught_N)) < 2 or not len(asked_N):
        return None
    right_N = _predict(taught_ND, taught_N, asked_ND) == asked_N
    return _reading(right_N, asked_N, np.arange(len(asked_N)), taught_N)


def read_sounds(
    rows: Rows, sounds: Mapping[int, npt.NDArray[np.int64]], halves: Halves, *, frames: int
) -> Reading:
    """Probe frames for their sounds; `frames` of each half at most, evenly spread."""
    features, labels, utterances = [], [], []
    for half in halves:
        # Encoders may give a frame less than there are windows of cepstra.
        lengths = [min(len(rows[index]), len(sounds[index])) for index in half]
        together_ND = torch.cat([rows[index][:length] for index, length in zip(half, lengths, strict=True)])
        sounds_N = np.concatenate(
            [sounds[index][:length] for index, length in zip(half, lengths, strict=True)]
        )
        places = np.linspace(0, len(sounds_N) - 1, min(frames, len(sounds_N))).round().astype(np.int64)
        features.append(together_ND[torch.from_numpy(places)].numpy())
        labels.append(sounds_N[places])
        utterances.append(np.repeat(np.arange(len(half)), lengths)[places])
    right_N = _predict(features[0], labels[0], features[1]) == labels[1]
    return _reading(right_N, labels[1], utterances[1], labels[0])


def _predict(
    taught_ND: npt.NDArray[np.float32], labels_N: npt.NDArray[Any], asked_ND: npt.NDArray[np.float32]
) -> npt.NDArray[Any]:
    """Return what logistic regression on standardised features says."""
    mean_D, scale_D = taught_ND.mean(0), taught_ND.std(0) + 1e-6
    line = sklearn("linear_model").LogisticRegression(max_iter=MOST_STEPS)
    with warnings.catch_warnings():
        # Far enough, if not to the last digit.
        warnings.simplefilter("ignore", sklearn("exceptions").ConvergenceWarning)
        line.fit((taught_ND - mean_D) / scale_D, labels_N)
    found: npt.NDArray[Any] = line.predict((asked_ND - mean_D) / scale_D)
    return found


def _reading(
    right_N: npt.NDArray[np.bool_],
    asked_N: npt.NDArray[Any],
    utterances_N: npt.NDArray[np.int64],
    taught_N: npt.NDArray[Any],
) -> Reading:
    classes, counts = np.unique(taught_N, return_counts=True)
    return Reading(
        ratio_estimate(np.bincount(utterances_N, right_N), np.bincount(utterances_N)),
        chance=float((asked_N == classes[counts.argmax()]).mean()),
        classes=len(classes),
        taught=len(taught_N),
    )


def _stacked(rows: Sequence[Tensor]) -> npt.NDArray[np.float32]:
    return torch.stack(list(rows)).numpy() if rows else np.zeros((0, 1), np.float32)
