"""Tasks that give waveforms back: discriminators judge them while training, metrics when validating."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from wavslm_core.data.batches import Crop
from wavslm_core.model.codec import Codec
from wavslm_core.parts.estimates import ratio_estimate
from wavslm_core.parts.lengths import zero_padding
from wavslm_core.parts.measurement import Measurement, measure, totals, warn_of_failures
from wavslm_core.parts.metric import Metric
from wavslm_core.parts.roles import CODEC_ROLES
from wavslm_core.training.adversarial import Adversary
from wavslm_core.training.audio_task import AudioTask
from wavslm_core.training.config import AdversarialTrainingConfig, TrainingConfig
from wavslm_core.training.task import LossOutput, Player
from wavslm_core.training.tracking import Tracker

ResynthesisConfigT = TypeVar("ResynthesisConfigT", bound=AdversarialTrainingConfig)


@dataclass(frozen=True)
class Rebuilt:
    """A micro-batch and what is made of it."""

    crops: list[Crop]
    samples: int
    """At the codec's input rate, without padding."""
    padding: float
    """How many times as long padding makes it."""
    target_BS: Tensor
    """What was heard, at the codec's output rate; zeros behind an item's end."""
    estimate_BS: Tensor
    """What is given back, as long, and as silent behind the end."""


@dataclass(frozen=True)
class Heard:
    """How a validation utterance sounds."""

    spectral: float
    measurement: Measurement


class ResynthesisTask(AudioTask[ResynthesisConfigT]):
    """One whose codec, or a part of it, learns to give back what it hears.

    `codec` and `spectral`, the distance of an estimate from its target, are set by those that derive from it.
    """

    codec: Codec
    spectral: nn.Module

    def __init__(
        self,
        *arguments: Any,
        metrics: Mapping[str, Metric[Any]] | None = None,
        adversary: Adversary | None = None,
        **options: Any,
    ) -> None:
        """`arguments` and `options` as in `AudioTask`."""
        self.metrics = dict(metrics or {})
        self.adversary = adversary
        super().__init__(*arguments, **options)

    @abstractmethod
    def rebuild(self, step: int, micro_batch: int) -> Rebuilt:
        """Return a micro-batch with what the codec makes of it."""

    @property
    @abstractmethod
    def trained(self) -> dict[str, nn.Module]:
        """The parts that are trained; others stay in eval mode and out of checkpoints."""

    @property
    def modules(self) -> dict[str, nn.Module]:
        return self.trained | ({} if self.adversary is None else self.adversary.modules)

    @property
    def parts(self) -> dict[str, nn.Module]:
        return {role: getattr(self.codec, role) for role in CODEC_ROLES} | self.modules

    @property
    def device(self) -> torch.device:
        return next(self.codec.parameters()).device

    def players(self, config: TrainingConfig) -> Sequence[Player]:
        if self.adversary is None:
            return super().players(config)
        reaches = self.reaches_all_weights
        own = Player("codec", self.loss, self.trained, config, reaches_all_weights=reaches)
        return self.adversary.player(self._judge), own

    def _judge(self, step: int, micro_batch: int) -> LossOutput:
        """Return the discriminators' loss of a micro-batch."""
        assert self.adversary is not None
        rebuilt = self.rebuild(step, micro_batch)
        output = self.adversary.judge(rebuilt.target_BS, rebuilt.estimate_BS, samples=self.crop_samples_out)
        output.description = self.described(rebuilt.crops)
        return output

    def leave(self) -> None:
        if self.adversary is not None:
            self.adversary.save()

    def rebuilt(
        self, crops: list[Crop], lengths_B: Tensor, target_BS: Tensor, estimate_BS: Tensor
    ) -> Rebuilt:
        """Return crops of `lengths_B` samples at the input rate with what is given back, as long."""
        # The last samples of a decoder with a delay lack the frames that would have come after the crop.
        delay = self.codec.facts.decoder.delay_samples
        size = min(target_BS.shape[1], max(1, estimate_BS.shape[1] - delay))
        out_lengths_B = lengths_B * self.rate_out // self.rate_in
        samples = max(1, int(lengths_B.sum()))
        return Rebuilt(
            crops=crops,
            samples=samples,
            padding=target_BS.numel() * self.rate_in / self.rate_out / samples,
            # Silence on both sides where an item is padded, so that padding costs nothing.
            target_BS=zero_padding(target_BS[:, :size, None], out_lengths_B)[..., 0],
            estimate_BS=zero_padding(estimate_BS[:, :size, None], out_lengths_B)[..., 0],
        )

    def distance(self, rebuilt: Rebuilt) -> Tensor:
        """Return the spectral distance: a mean over the audio there is, not over how far it happened to be
        padded in this process."""
        distance: Tensor = self.spectral(rebuilt.estimate_BS, rebuilt.target_BS)
        return distance * rebuilt.padding

    def fooled(self, step: int, rebuilt: Rebuilt) -> dict[str, Tensor]:
        """Return what `Adversary.fool` says of a micro-batch, as such means; nothing where none plays."""
        if self.adversary is None or not self.adversary.plays(step):
            return {}
        fooled = self.adversary.fool(rebuilt.target_BS, rebuilt.estimate_BS, samples=self.crop_samples_out)
        padding = len(rebuilt.crops) * self.crop_samples / rebuilt.samples
        return {name: value * padding for name, value in fooled.items()}

    def weighted(self, parts: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
        """Return the weighted sum of those terms of the loss that there are."""
        if self.adversary is not None:
            weights = {**weights, **self.adversary.weights}
        terms = [weight * parts[name] for name, weight in weights.items() if weight and name in parts]
        return torch.stack(terms).sum()

    def hear(self, index: int, reference_S: Tensor, estimate_S: Tensor) -> Heard:
        """Return how a validation utterance sounds; both at the output rate."""
        size = min(len(reference_S), len(estimate_S))
        reference_S, estimate_S = reference_S[:size].to(self.device), estimate_S[:size]
        return Heard(
            float(self.spectral(estimate_S[None], reference_S[None])),
            measure(
                self.metrics,
                reference_S,
                estimate_S,
                sample_rate_hz=self.rate_out,
                text=self.valid.utterances[index].text,
            ),
        )

    def sound(self, indices: Sequence[int], heard: Sequence[Heard]) -> dict[str, float]:
        """Return validation scalars: the mean spectral distance as `loss`, and the metrics."""
        measured = [one.measurement for one in heard]
        if self.processes.rank == 0:
            warn_of_failures(self.metrics, [self.valid.utterances[index].id for index in indices], measured)
        return {
            "loss": sum(one.spectral for one in heard) / len(heard),
            **_means(self.metrics, measured),
        }

    @abstractmethod
    def resynthesise(self, waveform_1S: Tensor) -> Tensor:
        """Return what is given back for a whole waveform, (1,S')."""

    def show(self, tracker: Tracker, step: int) -> None:
        """Log a validation utterance and its reconstruction."""
        from wavslm_core.plotting import spectrogram_figure

        waveform_S = self.valid.load(self.valid_indices[0], sample_rate_hz=self.rate_in)
        rebuilt_S = self.resynthesise(waveform_S[None].to(self.device))[0].float().cpu()
        tracker.audio("original", waveform_S, self.rate_in, step)
        tracker.audio("reconstruction", rebuilt_S, self.rate_out, step)
        shown = {"original": (waveform_S, self.rate_in), "reconstruction": (rebuilt_S, self.rate_out)}
        tracker.figure("spectrograms", lambda: spectrogram_figure(shown), step)


def _means(names: Iterable[str], measurements: Sequence[Measurement]) -> dict[str, float]:
    """Return metric → its score over utterances, and `<metric>_failed` → how many it failed on, if any."""
    means: dict[str, float] = {}
    for name in names:
        means[name] = ratio_estimate(*totals(measurements, name)).mean
        failed = sum(name in found.failures for found in measurements)
        if failed:
            means[f"{name}_failed"] = float(failed)
    return means
