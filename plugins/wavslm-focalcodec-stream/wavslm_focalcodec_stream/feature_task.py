"""Tasks that learn from a teacher's features of whole utterances, at the frames of each crop."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wavslm_core.plugin import (
    AudioBatch,
    AudioTask,
    Codec,
    Crop,
    Encoder,
    LayeredEncoder,
    StageContext,
    valid_mask,
    weights_digest,
)
from wavslm_focalcodec_stream.feature_stage import FeatureConfigT
from wavslm_focalcodec_stream.feature_store import FeatureStore, feature_store

VARIANCE_UTTERANCES = 64
"""Validation utterances that tell how large features are, at most."""


@dataclass(frozen=True)
class HeardAudio(AudioBatch):
    """A micro-batch's audio, and what the teacher hears, or gave for it before."""

    wholes: list[Tensor]
    """Utterances (S,) that the crops are of, at the task's input rate; none with a cache."""
    cached: list[Tensor]
    """Features (T,L,D) of the crops, L for the layers that were asked for; none without a cache."""


@dataclass(frozen=True)
class TaughtBatch:
    """What is heard, and what the teacher has to say of it. Padded places mean nothing."""

    crops: list[Crop]
    """Validation utterances are whole."""
    waveform_BS: Tensor
    """At the codec's input rate, zero where padded."""
    lengths_B: Tensor
    """Samples of each."""
    targets: list[Tensor]
    """(S,) each, the same at the task's output rate."""
    features: list[Tensor]
    """(B,T,D) of each layer that was asked for."""
    frame_lengths_B: Tensor
    """Frames of each that teacher and student both have."""

    @property
    def frames(self) -> int:
        return int(self.frame_lengths_B.sum())

    def valid(self, features_BTD: Tensor) -> Tensor:
        """Return features (B,T,D) of as many frames as there are, without padding, (N,D)."""
        return features_BTD[valid_mask(self.frame_lengths_B, features_BTD.shape[1])]


def squared_error(given_BTD: Tensor, wanted_BTD: Tensor, batch: TaughtBatch) -> Tensor:
    """Return the sum over valid frames of squared differences, which are means over dimensions.

    What is given may have more frames than what is wanted.
    """
    size = wanted_BTD.shape[1]
    mask_BT1 = valid_mask(batch.frame_lengths_B, size)[..., None]
    difference_BTD = (given_BTD[:, :size].float() - wanted_BTD).masked_fill(~mask_BT1, 0.0)
    return difference_BTD.square().sum() / wanted_BTD.shape[2]


def moments(features_ND: Tensor) -> Tensor:
    """Return the sum of features and that of their squares, (2,D): what variances are made of."""
    features_ND = features_ND.double()
    return torch.stack([features_ND.sum(0), features_ND.square().sum(0)]).cpu()


def mean_variance(parts: Sequence[Tensor], frames: int) -> float:
    """Return the variance of features over `frames` frames, a mean over dimensions, of their `moments`."""
    mean_D, square_D = torch.stack(list(parts)).sum(0) / frames
    return float((square_D - mean_D.square()).mean())


class FeatureTask(AudioTask[FeatureConfigT], ABC):
    """One that sees crops together with the teacher's features of them.

    The teacher hears utterances whole: its features at the frames of a crop know what is around it. It stays
    as it is, in fp32, and is no module of the task.
    """

    def __init__(
        self,
        codec: Codec,
        teacher: Encoder[Any],
        *,
        config: FeatureConfigT,
        layers: Sequence[int] | None = None,
        cached_in: StageContext | None = None,
        **options: Any,
    ) -> None:
        """`layers`: those whose outputs are learnt from, 0 is the input of the first; None: the features.

        `cached_in`: the run whose cache keeps what the teacher gives. `options` as in `AudioTask`.
        """
        facts = codec.facts
        super().__init__(
            config=config,
            rate_in=codec.sample_rate_in,
            chunk_samples=facts.chunk_samples_in,
            grid_samples=facts.encoder.hop_samples,
            longest_seconds=config.longest_seconds,
            **options,
        )
        self.codec = codec
        self.teacher = teacher
        self.layers = layers
        self._taught: dict[tuple[int, int], TaughtBatch] = {}
        self._stores = {} if cached_in is None else self._filled_stores(cached_in)

    @property
    def device(self) -> torch.device:
        return next(self.codec.parameters()).device

    def taught(self, step: int, micro_batch: int) -> TaughtBatch:
        """Return a micro-batch; the teacher hears it once for all players of a step."""
        known = self._taught.get((step, micro_batch))
        if known is None:
            known = self._batch(cast(HeardAudio, self.batch(step, micro_batch)))
            self._taught[step, micro_batch] = known
            while len(self._taught) > self.config.accumulate:
                del self._taught[next(iter(self._taught))]
        return known

    def taught_valid(self, indices: Sequence[int]) -> TaughtBatch:
        """Return validation utterances, whole."""
        waveforms, targets = self.valid_audio(indices)
        store = self._stores.get(self.valid.name)
        cached = [] if store is None else [store.features(index) for index in indices]
        return self._batch(
            HeardAudio([Crop(index, 0) for index in indices], waveforms, targets, waveforms, cached)
        )

    @torch.no_grad()
    def teach(self, waveform_BS: Tensor, lengths_B: Tensor) -> list[Tensor]:
        """Return the teacher's features of whole utterances, (B,T,D) for each layer."""
        if self.layers is None:
            return [self.teacher(waveform_BS, lengths=lengths_B)]
        states = cast("LayeredEncoder[Any]", self.teacher).hidden_states(waveform_BS, lengths=lengths_B)
        return [states[layer] for layer in self.layers]

    def expected(self, batch: TaughtBatch) -> list[Tensor]:
        """Return what is learnt to be given, (B,T,D) each."""
        return batch.features

    def variances(self) -> list[float]:
        """Return the variance of each of what is expected, a mean over dimensions, over validation speech.

        Every process hears the same: what is divided by it is the same in all of them.
        """
        frames, found = 0, []
        for index in self.valid_indices[:VARIANCE_UTTERANCES]:
            batch = self.taught_valid([index])
            frames += batch.frames
            found.append([moments(batch.valid(features_BTD)) for features_BTD in self.expected(batch)])
        return [max(mean_variance(parts, frames), 1e-12) for parts in zip(*found, strict=True)]

    @property
    def outputs(self) -> tuple[str, ...]:
        """What `teach` gives, by names that tell it from what other tasks have of a teacher."""
        return ("features",) if self.layers is None else tuple(f"layer_{layer}" for layer in self.layers)

    @property
    def width(self) -> int:
        """That of what `teach` gives."""
        return self.codec.facts.encoder.output_dim

    @property
    def fingerprint(self) -> dict[str, Any]:
        """All that decides what `teach` gives for a waveform."""
        return {
            "teacher": self.teacher.config.model_dump(mode="json"),
            "teacher_weights": weights_digest(self.teacher),
            "outputs": self.outputs,
        }

    def _filled_stores(self, context: StageContext) -> dict[str, FeatureStore]:
        facts = self.codec.facts.encoder
        fingerprint = self.fingerprint
        return {
            split.name: feature_store(
                split,
                self._heard_whole,
                context,
                fingerprint=fingerprint,
                outputs=len(self.outputs),
                width=self.width,
                frame_rate_hz=facts.sample_rate_hz / facts.hop_samples,
                sample_rate_hz=self.rate_in,
                longest_seconds=self.config.longest_seconds,
            )
            for split in (self.train, self.valid)
        }

    def _heard_whole(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Return what the teacher gives for each of some waveforms, (T,L,D)."""
        features, lengths_B = self._hear(waveforms)
        stacked_BTLD = torch.stack(features, dim=2)
        return [rows_TLD[:length] for rows_TLD, length in zip(stacked_BTLD, lengths_B.tolist(), strict=True)]

    def _hear(self, waveforms: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Return what the teacher gives, (B,T,D) for each layer, and how many frames each item has, (B,)."""
        waveform_BS, lengths_B = self.padded(waveforms)
        with torch.autocast(self.device.type, enabled=False):
            return self.teach(waveform_BS, lengths_B), self.teacher.frame_lengths(lengths_B)

    def _batch(self, audio: HeardAudio) -> TaughtBatch:
        waveform_BS, lengths_B = self.padded(audio.waveforms)
        if audio.cached:
            features = list(pad_sequence(audio.cached, batch_first=True).to(self.device).float().unbind(2))
            known_B = torch.tensor([len(rows_TLD) for rows_TLD in audio.cached], device=self.device)
            # What is kept of a crop begins with it.
            starts_B = torch.zeros_like(known_B)
        else:
            features, known_B = self._hear(audio.wholes)
            starts_B = torch.tensor(
                [crop.start // self.hop_samples for crop in audio.crops], device=self.device
            )
            known_B = (known_B - starts_B).clamp(min=0)
        frame_lengths_B = self.codec.encoder.frame_lengths(lengths_B).minimum(known_B)
        frames = int(frame_lengths_B.max())
        features = [_cut(features_BTD, starts_B, frames) for features_BTD in features]
        return TaughtBatch(audio.crops, waveform_BS, lengths_B, audio.targets, features, frame_lengths_B)

    @property
    def hop_samples(self) -> int:
        return self.codec.facts.encoder.hop_samples

    def _read(self, step: int, micro_batch: int) -> HeardAudio:
        crops = self.crops(step, micro_batch)
        store = self._stores.get(self.train.name)
        if store is not None:
            audio = super()._read(step, micro_batch)
            frames = -(-self.crop_samples // self.hop_samples)
            cached = [
                store.features(crop.utterance, start=crop.start // self.hop_samples, frames=frames)
                for crop in crops
            ]
            return HeardAudio(crops, audio.waveforms, audio.targets, [], cached)
        wholes = [
            self.not_empty(self.train.load(crop.utterance, sample_rate_hz=self.rate_in), crop.utterance)
            for crop in crops
        ]
        same_rate = self.rate_out == self.rate_in
        if self.train.augment is None:
            waveforms = self._crops_of(wholes, crops)
            targets = waveforms if same_rate else [self._load(crop, self.rate_out) for crop in crops]
            return HeardAudio(crops, waveforms, targets, wholes, [])
        # What the teacher hears, student and decoder hear a piece of.
        given = wholes
        if not same_rate:
            given = [self.train.load(crop.utterance, sample_rate_hz=self.rate_out) for crop in crops]
        wholes, given = self.augmented(step, micro_batch, wholes, given)
        waveforms = self._crops_of(wholes, crops)
        targets = (
            waveforms if given is wholes else self._crops_of(given, crops, ratio=self.unit_out / self.unit_in)
        )
        return HeardAudio(crops, waveforms, targets, wholes, [])

    def _crops_of(
        self, wholes: Sequence[Tensor], crops: Sequence[Crop], *, ratio: float = 1.0
    ) -> list[Tensor]:
        """Return the crops of whole utterances, at `ratio` times the input rate."""
        size = round(self.crop_samples * ratio)
        starts = [round(crop.start * ratio) for crop in crops]
        return [
            self.not_empty(whole_S[start : start + size], crop.utterance)
            for whole_S, start, crop in zip(wholes, starts, crops, strict=True)
        ]


def _cut(whole_BTD: Tensor, starts_B: Tensor, frames: int) -> Tensor:
    """Return (B, frames, D) from each item's start on; what is behind an item's end means nothing."""
    if not starts_B.any():
        return whole_BTD[:, :frames]
    index_BT = starts_B[:, None] + torch.arange(frames, device=starts_B.device)
    index_BT1 = index_BT.clamp(max=whole_BTD.shape[1] - 1)[..., None]
    return whole_BTD.gather(1, index_BT1.expand(-1, -1, whole_BTD.shape[2]))
