"""Tasks that learn from a teacher's features of whole utterances, at the frames of each crop."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from wavslm_core.plugin import AudioBatch, AudioTask, Codec, Crop, Encoder, LayeredEncoder
from wavslm_focalcodec_stream.teacher import TaughtConfigT


@dataclass(frozen=True)
class WholeAudio(AudioBatch):
    """A micro-batch's audio, and the utterances that it is of."""

    wholes: list[Tensor]
    """(S,) each, at the task's input rate."""


@dataclass(frozen=True)
class TaughtBatch:
    """What is heard, and what the teacher has to say of it. Padded places mean nothing."""

    crops: list[Crop]
    """None for validation utterances, which are whole."""
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


class FeatureTask(AudioTask[TaughtConfigT], ABC):
    """One that sees crops together with the teacher's features of them.

    The teacher hears utterances whole: its features at the frames of a crop know what is around it. It stays
    as it is, in fp32, and is no module of the task.
    """

    def __init__(
        self,
        codec: Codec,
        teacher: Encoder[Any],
        *,
        config: TaughtConfigT,
        layers: Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        """`layers`: those whose outputs are learnt from, 0 is the input of the first; None: the features.

        `options` as in `AudioTask`.
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

    @property
    def device(self) -> torch.device:
        return next(self.codec.parameters()).device

    def taught(self, step: int, micro_batch: int) -> TaughtBatch:
        """Return a micro-batch; the teacher hears it once for all players of a step."""
        known = self._taught.get((step, micro_batch))
        if known is None:
            audio = cast(WholeAudio, self.batch(step, micro_batch))
            starts = [crop.start for crop in audio.crops]
            known = self._batch(audio.crops, audio.waveforms, audio.targets, audio.wholes, starts)
            self._taught[step, micro_batch] = known
            while len(self._taught) > self.config.accumulate:
                del self._taught[next(iter(self._taught))]
        return known

    def taught_valid(self, indices: Sequence[int]) -> TaughtBatch:
        """Return validation utterances, whole."""
        waveforms = [self.valid.load(index, sample_rate_hz=self.rate_in) for index in indices]
        targets = waveforms
        if self.rate_out != self.rate_in:
            targets = [self.valid.load(index, sample_rate_hz=self.rate_out) for index in indices]
        return self._batch([], waveforms, targets, waveforms, [0] * len(waveforms))

    @torch.no_grad()
    def teach(self, waveform_BS: Tensor, lengths_B: Tensor) -> list[Tensor]:
        """Return the teacher's features of whole utterances, (B,T,D) for each layer."""
        if self.layers is None:
            return [self.teacher(waveform_BS, lengths=lengths_B)]
        states = cast("LayeredEncoder[Any]", self.teacher).hidden_states(waveform_BS, lengths=lengths_B)
        return [states[layer] for layer in self.layers]

    def _batch(
        self,
        crops: list[Crop],
        waveforms: Sequence[Tensor],
        targets: list[Tensor],
        wholes: Sequence[Tensor],
        starts: Sequence[int],
    ) -> TaughtBatch:
        waveform_BS, lengths_B = self.padded(waveforms)
        whole_BS, whole_lengths_B = self.padded(wholes)
        with torch.autocast(self.device.type, enabled=False):
            features = self.teach(whole_BS, whole_lengths_B)
        starts_B = torch.tensor(starts, device=self.device) // self.codec.facts.encoder.hop_samples
        known_B = (self.teacher.frame_lengths(whole_lengths_B) - starts_B).clamp(min=0)
        frame_lengths_B = self.codec.encoder.frame_lengths(lengths_B).minimum(known_B)
        return TaughtBatch(
            crops,
            waveform_BS,
            lengths_B,
            targets,
            [_cut(whole_BTD, starts_B, int(frame_lengths_B.max())) for whole_BTD in features],
            frame_lengths_B,
        )

    def _read(self, step: int, micro_batch: int) -> WholeAudio:
        crops = self.crops(step, micro_batch)
        wholes = [
            self.not_empty(self.train.load(crop.utterance, sample_rate_hz=self.rate_in), crop.utterance)
            for crop in crops
        ]
        waveforms = [
            self.not_empty(whole_S[crop.start : crop.start + self.crop_samples], crop.utterance)
            for whole_S, crop in zip(wholes, crops, strict=True)
        ]
        same_rate = self.rate_out == self.rate_in
        targets = waveforms if same_rate else [self._load(crop, self.rate_out) for crop in crops]
        return WholeAudio(crops, waveforms, targets, wholes)


def _cut(whole_BTD: Tensor, starts_B: Tensor, frames: int) -> Tensor:
    """Return (B, frames, D) from each item's start on."""
    index_BT = starts_B[:, None] + torch.arange(frames, device=starts_B.device)
    index_BT1 = index_BT.clamp(max=whole_BTD.shape[1] - 1)[..., None]
    return whole_BTD.gather(1, index_BT1.expand(-1, -1, whole_BTD.shape[2]))
