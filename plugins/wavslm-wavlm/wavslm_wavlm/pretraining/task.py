"""The task of pretraining: predict the clusters of hidden frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from wavslm_core.plugin import (
    AudioBatch,
    AudioTask,
    Batching,
    LossOutput,
    Processes,
    Split,
    TokenStore,
    Tracker,
    codebook_use,
)
from wavslm_wavlm.config import SAMPLE_RATE_HZ
from wavslm_wavlm.encoder import WavLM
from wavslm_wavlm.pretraining.config import PretrainEncoderConfig
from wavslm_wavlm.pretraining.mixing import Mixing
from wavslm_wavlm.pretraining.prediction import BoolArray, ClusterPredictor, copied, span_mask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNKNOWN = -1
"""Label of a frame beyond the last one that has a cluster."""
_TRAINING, _VALIDATION = 1, 2
"""Whose random numbers are drawn."""

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class HiddenBatch(AudioBatch):
    """Crops with something mixed into them, and what is predicted of them."""

    labels: list[IntArray]
    """(T,) each: clusters of the clean crop."""
    masked: list[BoolArray]
    """(T,) each: which frames are hidden."""


@dataclass(frozen=True)
class _Score:
    """What the encoder says of one utterance."""

    labels_T: IntArray
    masked_T: BoolArray
    predicted_T: IntArray
    nats_T: npt.NDArray[np.float32]
    """−log p of each label."""


class MaskedPrediction(AudioTask[PretrainEncoderConfig]):
    """Mean −log p, in nats, of the clusters of hidden frames; what is heard counts as the config says."""

    reaches_all_weights = True

    def __init__(
        self,
        encoder: WavLM,
        predictor: ClusterPredictor,
        train: Split,
        valid: Split,
        *,
        labels: dict[str, TokenStore],
        mixing: Mixing,
        config: PretrainEncoderConfig,
        batching: Batching,
        processes: Processes,
    ) -> None:
        """`labels`: the clusters of both splits, by their names."""
        self.hop = encoder.config.hop_samples
        super().__init__(
            train,
            valid,
            config=config,
            batching=batching,
            rate_in=SAMPLE_RATE_HZ,
            chunk_samples=self.hop,
            # Where frames of the whole utterance begin: their clusters are those of the crop.
            grid_samples=self.hop,
            processes=processes,
        )
        self.encoder = encoder
        self.predictor = predictor
        self.labels = labels
        self.mixing = mixing

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "predictor": self.predictor}

    @property
    def device(self) -> torch.device:
        return self.predictor.mask_embedding.device

    def about(self) -> dict[str, Any]:
        use = codebook_use(self.labels["train"].counts())
        return {**super().about(), "clusters": {"used": use.used, "entropy_bits": use.entropy_bits}}

    def _read(self, step: int, micro_batch: int) -> HiddenBatch:
        clean = super()._read(step, micro_batch)
        heard, labels, masked = [], [], []
        places = self.batching.places(step, micro_batch).tolist()
        for place, crop, waveform_S in zip(places, clean.crops, clean.waveforms, strict=True):
            generator = np.random.default_rng([self.batching.seed, _TRAINING, place])
            labels_T = self._clusters("train", crop.utterance, crop.start, len(waveform_S))
            labels.append(labels_T)
            masked.append(self._mask(len(labels_T), generator))
            heard.append(self.mixing(waveform_S, generator))
        return HiddenBatch(clean.crops, heard, clean.targets, labels, masked)

    def _clusters(self, split: str, index: int, start: int, samples: int) -> IntArray:
        """Return the clusters (T,) of the frames of a crop."""
        first = start // self.hop
        frames = int(self.encoder.frame_lengths(torch.tensor(samples)))
        known_T = self.labels[split].tokens(index)[first : first + frames]
        return np.pad(known_T, (0, frames - len(known_T)), constant_values=UNKNOWN)

    def _mask(self, frames: int, generator: np.random.Generator) -> BoolArray:
        probability, span = self.config.mask_probability, self.config.mask_frames
        return span_mask(frames, probability=probability, span=span, generator=generator)

    def loss(self, step: int, micro_batch: int) -> LossOutput:
        batch = self.batch(step, micro_batch)
        assert isinstance(batch, HiddenBatch)
        hidden_BTD, labels_BT, masked_BT = self._hidden(batch.waveforms, batch.labels, batch.masked)
        masked_BT = masked_BT & (labels_BT != UNKNOWN)
        nats, right, count = self._predicted(hidden_BTD[masked_BT], labels_BT[masked_BT])
        loss, weight = nats, float(count)
        if self.config.heard_weight:
            heard_BT = ~masked_BT & (labels_BT != UNKNOWN)
            heard_nats, _, heard = self._predicted(hidden_BTD[heard_BT], labels_BT[heard_BT])
            loss = loss + self.config.heard_weight * heard_nats
            weight += self.config.heard_weight * heard
        return LossOutput(
            loss / weight,
            metrics={"masked_accuracy": right / count},
            weight=weight,
            tokens=sum(map(len, batch.labels)),
            description=self.described(batch.crops),
        )

    def _predicted(self, hidden_ND: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor, int]:
        """Return the sum of −log p, how many are right, and how many there are."""
        logits_NK = self.predictor(hidden_ND)
        nats = F.cross_entropy(logits_NK, labels_N, reduction="sum")
        return nats, (logits_NK.detach().argmax(1) == labels_N).sum(), len(labels_N)

    def _hidden(
        self, waveforms: Sequence[Tensor], labels: Sequence[IntArray], masked: Sequence[BoolArray]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return hidden states (B,T,D), labels (B,T), and masks (B,T): False where there is no frame."""
        waveform_BS, lengths_B = self.padded(waveforms)
        even = len({len(waveform_S) for waveform_S in waveforms}) == 1
        labels_BT = pad_sequence([*map(torch.from_numpy, labels)], batch_first=True, padding_value=UNKNOWN)
        masked_BT = pad_sequence([*map(torch.from_numpy, masked)], batch_first=True).to(self.device)
        hidden_BTD = self.predictor.hidden_states(
            self.encoder, waveform_BS, masked_BT, lengths=None if even else lengths_B
        )
        return hidden_BTD, labels_BT.to(self.device), masked_BT

    def validate(self) -> dict[str, float]:
        """Return the loss of hidden frames, and how many are right of those hidden and of those heard.

        Beside them what needs no encoder: always the most frequent cluster (`chance`), and that of the
        nearest frame that is heard (`copying`). `cluster_perplexity`: of the clusters that are predicted;
        their number, were they equally frequent.
        """
        _, scores = self.scored(self._scores)
        labels_N, masked_N, predicted_N, nats_N = (
            np.concatenate([getattr(score, field) for score in scores])
            for field in ("labels_T", "masked_T", "predicted_T", "nats_T")
        )
        copied_N = np.concatenate([copied(score.labels_T, score.masked_T) for score in scores])
        counts_K = np.bincount(labels_N[masked_N])
        return {
            "loss": float(nats_N[masked_N].astype(np.float64).mean()),
            "masked_accuracy": float((predicted_N == labels_N)[masked_N].mean()),
            "heard_accuracy": _mean((predicted_N == labels_N)[~masked_N]),
            "chance": float(counts_K.max() / counts_K.sum()),
            "copying": float((copied_N == labels_N)[masked_N].mean()),
            "cluster_perplexity": codebook_use(np.bincount(labels_N)).perplexity,
        }

    def _scores(self, indices: Sequence[int]) -> list[_Score]:
        """Return what is predicted of validation utterances, whole and with nothing mixed in."""
        waveforms = [self.valid.load(index, sample_rate_hz=SAMPLE_RATE_HZ) for index in indices]
        labels = [
            self._clusters("valid", index, 0, len(waveform_S))
            for index, waveform_S in zip(indices, waveforms, strict=True)
        ]
        masked = [
            self._mask(len(labels_T), np.random.default_rng([self.batching.seed, _VALIDATION, index]))
            for index, labels_T in zip(indices, labels, strict=True)
        ]
        hidden_BTD, labels_BT, _ = self._hidden(waveforms, labels, masked)
        scores = []
        for row, labels_T in enumerate(labels):
            known = int((labels_T != UNKNOWN).sum())
            log_probs_TK = self.predictor(hidden_BTD[row, :known]).log_softmax(1)
            nats_T = -log_probs_TK.gather(1, labels_BT[row, :known, None])[:, 0]
            predicted_T = log_probs_TK.argmax(1)
            scores.append(
                _Score(labels_T[:known], masked[row][:known], predicted_T.cpu().numpy(), nats_T.cpu().numpy())
            )
        return scores

    def show(self, tracker: Tracker, step: int) -> None:
        """Log a validation utterance with its clusters and what is predicted."""
        index = self.valid_indices[0]
        waveform_S = self.valid.load(index, sample_rate_hz=SAMPLE_RATE_HZ)
        (score,) = self._scores([index])
        frame_s = self.hop / SAMPLE_RATE_HZ
        tracker.figure("clusters", lambda: cluster_figure(waveform_S, score, frame_s=frame_s), step)


def cluster_figure(waveform_S: Tensor, score: _Score, *, frame_s: float) -> Figure:
    """Draw a spectrogram; below it, in colours, the clusters, and those predicted, bright where hidden.

    Similar numbers are no similar clusters: colours only show where they change and where they agree.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    spectrum, *strips = figure.subplots(4, 1, sharex=True, height_ratios=[6, 1, 1, 1])
    # Digital silence has no level.
    heard_S = waveform_S.numpy() + np.random.default_rng(0).normal(0, 1e-5, len(waveform_S))
    power, *_, image = spectrum.specgram(heard_S, NFFT=400, noverlap=240, Fs=SAMPLE_RATE_HZ, cmap="magma")
    image.set_clim(vmin=10 * math.log10(power.max()) - 80)
    spectrum.set_ylabel("Hz")
    extent = (0.0, len(score.labels_T) * frame_s, 0.0, 1.0)
    right_T = np.where(score.predicted_T == score.labels_T, score.labels_T, -1)
    rows = {"cluster": score.labels_T, "predicted": score.predicted_T, "right": right_T}
    for axis, (name, row_T) in zip(strips, rows.items(), strict=True):
        colours_TC = _colours(row_T)
        colours_TC[~score.masked_T] = 1 - 0.35 * (1 - colours_TC[~score.masked_T])
        axis.imshow(colours_TC[None], aspect="auto", extent=extent, interpolation="nearest")
        axis.set_yticks([])
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
    strips[-1].set_xlabel("time (s); pale: heard")
    return figure


def _colours(clusters_T: IntArray) -> npt.NDArray[np.float64]:
    """Return a colour (T,3) for each cluster, far from those of its neighbours; white for −1."""
    turns_T3 = np.outer(clusters_T, [0.819, 0.671, 0.550])
    return np.where(clusters_T[:, None] < 0, 1.0, 0.5 + 0.45 * np.cos(2 * math.pi * turns_T3))


def _mean(values: npt.NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else math.nan
