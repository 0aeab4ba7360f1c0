"""The codec's task: waveforms through encoder, quantizer and decoder, for any three that fit together.

Trained from scratch through rounded codes, a codec soon uses a handful of them: nothing but noise reaches
the encoder while the decoder does not listen. So training starts with `continuous_steps` in which latents
pass the bottleneck unrounded, with the quantizer's own losses (an entropy loss above all) already spreading
them; then codes are switched on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from wavslm_core.data.batches import Batching, Crop
from wavslm_core.data.codebook import codebook_use, count_codes
from wavslm_core.data.corpora import Split
from wavslm_core.errors import RecipeError
from wavslm_core.machine.processes import ALONE, Processes
from wavslm_core.model.codec import Codec
from wavslm_core.parts.estimates import ratio_estimate
from wavslm_core.parts.interfaces import QuantizerOutput
from wavslm_core.parts.lengths import valid_mask, zero_padding
from wavslm_core.parts.metric import Measurement, Metric, measure, totals, warn_of_failures
from wavslm_core.parts.promises import check_losses, check_width
from wavslm_core.parts.roles import CODEC_ROLES
from wavslm_core.training.adversarial import Adversary
from wavslm_core.training.audio_task import AudioTask
from wavslm_core.training.config import CodecTrainingConfig, TrainingConfig
from wavslm_core.training.losses import MelLoss, feature_distance
from wavslm_core.training.task import LossOutput, Player
from wavslm_core.training.tracking import Tracker


@dataclass(frozen=True)
class Rebuilt:
    """A micro-batch on its way through the codec."""

    crops: list[Crop]
    samples: int
    """At the codec's input rate, without padding."""
    padding: float
    """How many times as long padding makes it."""
    target_BS: Tensor
    """What was heard, at the codec's output rate; zeros behind an item's end."""
    estimate_BS: Tensor
    """What is given back, as long, and as silent behind the end."""
    features_BTD: Tensor
    quantized: QuantizerOutput
    frame_lengths_B: Tensor


@dataclass(frozen=True)
class _Score:
    """A validation utterance's tokens and numbers."""

    tokens_T: npt.NDArray[np.int64]
    spectral: float
    measurement: Measurement


class CodecTask(AudioTask[CodecTrainingConfig]):
    """Mel distance of the reconstruction, and what else `config` weighs in."""

    def __init__(
        self,
        codec: Codec,
        train: Split,
        valid: Split,
        *,
        config: CodecTrainingConfig,
        batching: Batching,
        metrics: Mapping[str, Metric[Any]] | None = None,
        adversary: Adversary | None = None,
        processes: Processes = ALONE,
    ) -> None:
        """`processes` divide validation among each other."""
        self.codec = codec
        self.adversary = adversary
        self.metrics = dict(metrics or {})
        for role in config.freeze:
            getattr(codec, role).eval().requires_grad_(False)
        if not any(weight.requires_grad for weight in codec.parameters()):
            raise RecipeError(
                f"train_codec freezes {', '.join(config.freeze) or 'nothing'}, and what it leaves has no "
                "weights that gradients train. Leave the decoder out of `freeze`"
            )
        super().__init__(
            train,
            valid,
            config=config,
            batching=batching,
            rate_in=codec.sample_rate_in,
            rate_out=codec.sample_rate_out,
            chunk_samples=codec.facts.chunk_samples_in,
            processes=processes,
        )
        self.spectral = MelLoss(
            self.rate_out, window_samples=config.spectral_windows, floor=config.spectral_floor
        ).to(self.device)

    @property
    def modules(self) -> dict[str, nn.Module]:
        return self.trained | ({} if self.adversary is None else self.adversary.modules)

    @property
    def trained(self) -> dict[str, nn.Module]:
        """The parts that are trained; frozen ones stay in eval mode and out of checkpoints."""
        return {role: getattr(self.codec, role) for role in CODEC_ROLES if role not in self.config.freeze}

    def players(self, config: TrainingConfig) -> Sequence[Player]:
        if self.adversary is None:
            return super().players(config)
        return self.adversary.player(self._judge), Player("codec", self.loss, self.trained, config)

    @property
    def parts(self) -> dict[str, nn.Module]:
        return {role: getattr(self.codec, role) for role in CODEC_ROLES} | self.modules

    @property
    def device(self) -> torch.device:
        return next(self.codec.parameters()).device

    def loss(self, step: int, micro_batch: int) -> LossOutput:
        rebuilt = self.rebuild(step, micro_batch)
        if self.adversary is None or not self.adversary.plays(step):
            return self.compare(rebuilt)
        fooled = self.adversary.fool(rebuilt.target_BS, rebuilt.estimate_BS, samples=self.crop_samples_out)
        # As below: a mean over the audio there is, not over the crops that it is padded to.
        padding = len(rebuilt.crops) * self.crop_samples / rebuilt.samples
        return self.compare(rebuilt, {name: value * padding for name, value in fooled.items()})

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

    def rebuild(self, step: int, micro_batch: int) -> Rebuilt:
        """Return a micro-batch with what the codec makes of it."""
        batch = self.batch(step, micro_batch)
        waveform_BS, lengths = self.padded(batch.waveforms)
        target_BS = waveform_BS
        if self.rate_out != self.rate_in:
            target_BS, _ = self.padded(batch.targets)
        bypass_codes = step < self.config.continuous_steps
        features_BTD, quantized, estimate_BS = self._pass(waveform_BS, lengths, bypass_codes=bypass_codes)
        # The last samples of a decoder with a delay lack the frames that would have come after the crop.
        delay = self.codec.facts.decoder.delay_samples
        size = min(target_BS.shape[1], max(1, estimate_BS.shape[1] - delay))
        out_lengths_B = lengths * self.rate_out // self.rate_in
        samples = sum(len(waveform_S) for waveform_S in batch.waveforms)
        return Rebuilt(
            crops=batch.crops,
            samples=samples,
            padding=waveform_BS.numel() / samples,
            target_BS=target_BS[:, :size],
            # Silence on both sides where an item is padded, so that padding costs nothing.
            estimate_BS=zero_padding(estimate_BS[:, :size, None], out_lengths_B)[..., 0],
            features_BTD=features_BTD,
            quantized=quantized,
            frame_lengths_B=self.codec.encoder.frame_lengths(lengths),
        )

    def compare(self, rebuilt: Rebuilt, fooled: Mapping[str, Tensor] | None = None) -> LossOutput:
        """Return how far the codec is from what it heard, as `config` weighs it.

        `fooled`: what `Adversary.fool` says of it.
        """
        quantized, frame_lengths_B = rebuilt.quantized, rebuilt.frame_lengths_B
        parts = {
            # A mean over the audio there is, not over how far it happened to be padded in this process.
            "spectral": self.spectral(rebuilt.estimate_BS, rebuilt.target_BS) * rebuilt.padding,
            "feature": feature_distance(
                quantized.features_BTD,
                rebuilt.features_BTD,
                valid_mask(frame_lengths_B, rebuilt.features_BTD.shape[1]),
            ),
            **quantized.losses,
            **(fooled or {}),
        }
        tokens_N = quantized.tokens_BT[
            valid_mask(self.codec.quantizer.token_lengths(frame_lengths_B), quantized.tokens_BT.shape[1])
        ]
        return LossOutput(
            self._weighted(parts),
            metrics={name: value.detach() for name, value in parts.items()} | self._batch_use(tokens_N),
            weight=rebuilt.samples,
            tokens=tokens_N.numel(),
            description=self.described(rebuilt.crops),
        )

    def _pass(
        self, waveform_BS: Tensor, lengths: Tensor, *, bypass_codes: bool
    ) -> tuple[Tensor, QuantizerOutput, Tensor]:
        """Return features (B,T,D), what the quantizer makes of them, and the waveform (B,S')."""
        codec = self.codec
        frame_lengths = codec.encoder.frame_lengths(lengths)
        features_BTD = codec.encoder(waveform_BS, lengths=lengths)
        check_width(codec.encoder, features_BTD, output_dim=codec.facts.encoder.output_dim)
        quantized = codec.quantizer(features_BTD, lengths=frame_lengths, bypass_codes=bypass_codes)
        check_width(codec.quantizer, quantized.features_BTD, output_dim=codec.facts.quantizer.output_dim)
        check_losses(codec.quantizer, quantized.losses, losses=codec.facts.quantizer.losses)
        return features_BTD, quantized, codec.decoder(quantized.features_BTD, lengths=frame_lengths)

    def _weighted(self, parts: Mapping[str, Tensor]) -> Tensor:
        config = self.config
        weights = {
            "spectral": config.spectral_weight,
            "feature": config.feature_weight,
            **self.codec.facts.quantizer.losses,
            **config.quantizer_weights,
        }
        if self.adversary is not None:
            weights |= {name: weight for name, weight in self.adversary.weights.items() if name in parts}
        return torch.stack([weight * parts[name] for name, weight in weights.items() if weight]).sum()

    def _batch_use(self, tokens_N: Tensor) -> dict[str, float | Tensor]:
        """Return how many codes a batch uses, and their entropy in bits."""
        counts_V = torch.bincount(tokens_N, minlength=self.codec.facts.quantizer.vocab_size)
        shares_V = counts_V / counts_V.sum()
        return {
            "codes_in_batch": (counts_V > 0).sum(),
            "code_entropy_bits_in_batch": -torch.special.xlogy(shares_V, shares_V).sum() / math.log(2),
        }

    def validate(self) -> dict[str, float]:
        """Return the spectral loss through codes (`loss`), codebook use, and the metrics that were asked for.

        Codes are on whatever the step: it is the codec as it would be shipped now.
        """
        indices, scores = self.scored(self._scores)
        tokens = [score.tokens_T for score in scores]
        measured = [score.measurement for score in scores]
        if self.processes.rank == 0:
            ids = [self.valid.utterances[index].id for index in indices]
            warn_of_failures(self.metrics, ids, measured)
        use = codebook_use(count_codes(tokens, vocab_size=self.codec.facts.quantizer.vocab_size))
        return {
            "loss": sum(score.spectral for score in scores) / len(scores),
            "codes_used": float(use.used),
            "codebook_usage": use.used_fraction,
            "code_entropy_bits": use.entropy_bits,
            **_means(self.metrics, measured),
        }

    def _scores(self, indices: Sequence[int]) -> list[_Score]:
        """Return what validation utterances score."""
        waveforms = [self.valid.load(index, sample_rate_hz=self.rate_in) for index in indices]
        waveform_BS, lengths = self.padded(waveforms)
        tokens_BT = self.codec.encode(waveform_BS, lengths=lengths)
        token_lengths_B = self.codec.token_lengths(lengths)
        decoded_BS = self.codec.decode(tokens_BT, lengths=token_lengths_B).float()
        scores = []
        for row, index in enumerate(indices):
            reference_S = waveforms[row]
            if self.rate_out != self.rate_in:
                reference_S = self.valid.load(index, sample_rate_hz=self.rate_out)
            size = min(len(reference_S), decoded_BS.shape[1])
            reference_S = reference_S[:size].to(self.device)
            estimate_S = decoded_BS[row, :size]
            scores.append(
                _Score(
                    tokens_T=tokens_BT[row, : int(token_lengths_B[row])].cpu().numpy(),
                    spectral=float(self.spectral(estimate_S[None], reference_S[None])),
                    measurement=measure(
                        self.metrics,
                        reference_S,
                        estimate_S,
                        sample_rate_hz=self.rate_out,
                        text=self.valid.utterances[index].text,
                    ),
                )
            )
        return scores

    def show(self, tracker: Tracker, step: int) -> None:
        """Log a validation utterance and its reconstruction."""
        from wavslm_core.plotting import spectrogram_figure

        index = self.valid_indices[0]
        waveform_S = self.valid.load(index, sample_rate_hz=self.rate_in)
        rebuilt_S = self.codec.reconstruct(waveform_S[None].to(self.device))[0].float().cpu()
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
