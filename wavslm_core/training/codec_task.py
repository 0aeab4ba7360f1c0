"""The codec's task: waveforms through encoder, quantizer and decoder, for any three that fit together.

Trained from scratch through rounded codes, a codec soon uses a handful of them: nothing but noise reaches
the encoder while the decoder does not listen. So training starts with `continuous_steps` in which latents
pass the bottleneck unrounded, with the quantizer's own losses (an entropy loss above all) already spreading
them; then codes are switched on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from wavslm_core.data.codebook import codebook_use, count_codes
from wavslm_core.data.corpora import Split
from wavslm_core.errors import RecipeError
from wavslm_core.model.codec import Codec
from wavslm_core.parts.interfaces import QuantizerOutput
from wavslm_core.parts.lengths import valid_mask
from wavslm_core.parts.promises import check_losses, check_width
from wavslm_core.parts.roles import CODEC_ROLES
from wavslm_core.training.config import CodecTrainingConfig
from wavslm_core.training.losses import MelLoss, feature_distance
from wavslm_core.training.resynthesis_task import Heard, Rebuilt, ResynthesisTask
from wavslm_core.training.task import LossOutput


@dataclass(frozen=True)
class Recoded(Rebuilt):
    """A micro-batch on its way through the codec."""

    features_BTD: Tensor
    quantized: QuantizerOutput
    frame_lengths_B: Tensor


class CodecTask(ResynthesisTask[CodecTrainingConfig]):
    """Mel distance of the reconstruction, and what else `config` weighs in."""

    def __init__(
        self, codec: Codec, train: Split, valid: Split, *, config: CodecTrainingConfig, **options: Any
    ) -> None:
        """`options` as in `ResynthesisTask`."""
        self.codec = codec
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
            rate_in=codec.sample_rate_in,
            rate_out=codec.sample_rate_out,
            chunk_samples=codec.facts.chunk_samples_in,
            **options,
        )
        self.spectral = MelLoss(
            self.rate_out, window_samples=config.spectral_windows, floor=config.spectral_floor
        ).to(self.device)

    @property
    def trained(self) -> dict[str, nn.Module]:
        return {role: getattr(self.codec, role) for role in CODEC_ROLES if role not in self.config.freeze}

    def loss(self, step: int, micro_batch: int) -> LossOutput:
        recoded = self.rebuild(step, micro_batch)
        return self.compare(recoded, self.fooled(step, recoded))

    def rebuild(self, step: int, micro_batch: int) -> Recoded:
        batch = self.batch(step, micro_batch)
        waveform_BS, lengths = self.padded(batch.waveforms)
        target_BS = waveform_BS
        if batch.targets is not batch.waveforms:
            target_BS, _ = self.padded(batch.targets)
        bypass_codes = step < self.config.continuous_steps
        features_BTD, quantized, estimate_BS = self._pass(waveform_BS, lengths, bypass_codes=bypass_codes)
        rebuilt = self.rebuilt(batch.crops, lengths, target_BS, estimate_BS)
        return Recoded(
            **vars(rebuilt),
            features_BTD=features_BTD,
            quantized=quantized,
            frame_lengths_B=self.codec.encoder.frame_lengths(lengths),
        )

    def compare(self, recoded: Recoded, fooled: Mapping[str, Tensor] | None = None) -> LossOutput:
        """Return how far the codec is from what it heard, as `config` weighs it.

        `fooled`: what discriminators say of it.
        """
        quantized, frame_lengths_B = recoded.quantized, recoded.frame_lengths_B
        parts = {
            "spectral": self.distance(recoded),
            "feature": feature_distance(
                quantized.features_BTD,
                recoded.features_BTD,
                valid_mask(frame_lengths_B, recoded.features_BTD.shape[1]),
            ),
            **quantized.losses,
            **(fooled or {}),
        }
        tokens_N = quantized.tokens_BT[
            valid_mask(self.codec.quantizer.token_lengths(frame_lengths_B), quantized.tokens_BT.shape[1])
        ]
        return LossOutput(
            self.weighted(parts, self._weights),
            metrics={**{name: value.detach() for name, value in parts.items()}, **self._batch_use(tokens_N)},
            weight=recoded.samples,
            tokens=tokens_N.numel(),
            description=self.described(recoded.crops),
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

    @property
    def _weights(self) -> dict[str, float]:
        config = self.config
        own = {"spectral": config.spectral_weight, "feature": config.feature_weight}
        return {**own, **self.codec.facts.quantizer.losses, **config.quantizer_weights}

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
        tokens = [tokens_T for _, tokens_T in scores]
        use = codebook_use(count_codes(tokens, vocab_size=self.codec.facts.quantizer.vocab_size))
        return {**self.sound(indices, [heard for heard, _ in scores]), **use.scores}

    def _scores(self, indices: Sequence[int]) -> list[tuple[Heard, npt.NDArray[np.int64]]]:
        """Return how validation utterances sound, and their tokens (T,)."""
        waveforms, references = self.valid_audio(indices)
        waveform_BS, lengths = self.padded(waveforms)
        tokens_BT = self.codec.encode(waveform_BS, lengths=lengths)
        token_lengths_B = self.codec.token_lengths(lengths)
        decoded_BS = self.codec.decode(tokens_BT, lengths=token_lengths_B).float()
        return [
            (
                self.hear(index, references[row], decoded_BS[row]),
                tokens_BT[row, : int(token_lengths_B[row])].cpu().numpy(),
            )
            for row, index in enumerate(indices)
        ]

    def resynthesise(self, waveform_1S: Tensor) -> Tensor:
        return self.codec.reconstruct(waveform_1S)
