"""Tasks of quantizers: the distance of the features that they give back from those that they should give."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from wavslm_core.plugin import (
    Codec,
    Encoder,
    LayeredEncoder,
    LossOutput,
    Tracker,
    codebook_use,
    count_codes,
)
from wavslm_focalcodec_stream.compressor import refiners, unrefined
from wavslm_focalcodec_stream.feature_stage import QuantizerStageConfig, QuantizerStageConfigT
from wavslm_focalcodec_stream.feature_task import (
    FeatureTask,
    TaughtBatch,
    mean_variance,
    moments,
    squared_error,
)

logger = logging.getLogger(__name__)


@dataclass
class _Sums:
    """What validation utterances add up to."""

    frames: int
    errors: dict[str, float]
    """Squared errors, means over dimensions."""
    moments_2D: Tensor
    """Of the features that should be given."""
    tokens: list[npt.NDArray[np.int64]]


class QuantizerTask(FeatureTask[QuantizerStageConfigT]):
    """The quantizer gives back what the encoder gives for whole utterances; its refiners rest."""

    def __init__(
        self, codec: Codec, teacher: Encoder[Any], *, config: QuantizerStageConfigT, **options: Any
    ) -> None:
        """`options` as in `FeatureTask`."""
        codec.eval().requires_grad_(False)
        for role in config.trains:
            getattr(codec, role).requires_grad_(True)
        super().__init__(codec, teacher, config=config, **options)
        self.scale = self.variances()[0] if config.relative_error else 1.0
        """What the squared error is divided by."""
        self.prepare()

    def prepare(self) -> None:
        """Say which weights of the parts that are trained stay."""
        for refiner in refiners(self.codec.quantizer):
            refiner.rest()

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {role: getattr(self.codec, role) for role in self.config.trains}

    def given(self, codec: Codec, batch: TaughtBatch) -> tuple[Tensor, Tensor]:
        """Return the features (B,T,D) that a codec's quantizer is given, and the frames of each item."""
        return batch.features[0], batch.frame_lengths_B

    def loss(self, step: int, micro_batch: int) -> LossOutput:
        batch = self.taught(step, micro_batch)
        quantizer = self.codec.quantizer
        given_BTD, lengths_B = self.given(self.codec, batch)
        output = quantizer(given_BTD, lengths=lengths_B)
        # A batch may be crops of the very ends of utterances.
        count = max(1, batch.frames)
        parts = {"mse": squared_error(output.features_BTD, batch.features[0], batch) / count, **output.losses}
        weights = {
            "mse": 1.0 / self.scale,
            **self.codec.facts.quantizer.losses,
            **self.config.quantizer_weights,
        }
        return LossOutput(
            torch.stack([weight * parts[name] for name, weight in weights.items() if weight]).sum(),
            metrics={name: value.detach() for name, value in parts.items()},
            weight=count,
            tokens=int(quantizer.token_lengths(lengths_B).sum()),
            description=self.described(batch.crops),
        )

    def validate(self) -> dict[str, float]:
        """Return the MSE through codes (`loss`), that relative to the variance of what is wanted, that
        without refiners if there are any, and how codes are used, counted over all of it."""
        errors, variance, tokens = self.measured(self.codec)
        use = codebook_use(count_codes(tokens, vocab_size=self.codec.facts.quantizer.vocab_size))
        if use.collapse and self.processes.rank == 0:
            logger.warning(
                "the codebook collapses: %s. Weigh its losses more with quantizer_weights, or lower lr",
                use.collapse,
            )
        mse = errors.pop("mse")
        return {"loss": mse / self.scale, "relative_mse": mse / max(variance, 1e-12), **errors, **use.scores}

    def measured(self, codec: Codec) -> tuple[dict[str, float], float, list[npt.NDArray[np.int64]]]:
        """Return a codec's MSEs by name, the variance of what should be given, and the tokens (T,)."""
        _, found = self.scored(lambda indices: [self._sums(codec, indices)])
        frames = sum(sums.frames for sums in found)
        errors = {name: sum(sums.errors[name] for sums in found) / frames for name in found[0].errors}
        tokens = [tokens_T for sums in found for tokens_T in sums.tokens]
        return errors, mean_variance([sums.moments_2D for sums in found], frames), tokens

    def _sums(self, codec: Codec, indices: Sequence[int]) -> _Sums:
        batch = self.taught_valid(indices)
        expected_BTD = batch.features[0]
        given_BTD, lengths_B = self.given(codec, batch)
        tokens_BT = codec.quantizer.encode(given_BTD, lengths=lengths_B)
        token_lengths_B = codec.quantizer.token_lengths(lengths_B)
        decode = partial(codec.quantizer.decode, tokens_BT, lengths=token_lengths_B)
        errors = {"mse": float(squared_error(decode(), expected_BTD, batch))}
        if refiners(codec.quantizer):
            with unrefined(codec.quantizer):
                errors["unrefined_mse"] = float(squared_error(decode(), expected_BTD, batch))
        return _Sums(
            batch.frames,
            errors,
            moments(batch.valid(expected_BTD)),
            [
                row_T[:length].cpu().numpy()
                for row_T, length in zip(tokens_BT, token_lengths_B.tolist(), strict=True)
            ],
        )

    def show(self, tracker: Tracker, step: int) -> None:
        """Log a picture of what should be and what is given for a validation utterance."""
        batch = self.taught_valid(self.valid_indices[:1])
        quantizer = self.codec.quantizer
        expected_TD = batch.features[0][0]
        given_1TD, _ = self.given(self.codec, batch)
        given_TD = quantizer.decode(quantizer.encode(given_1TD))[0, : len(expected_TD)]
        shown = {"wanted": expected_TD, "given": given_TD, "difference": given_TD - expected_TD}
        tracker.features("features", shown, step)


class JointTask(QuantizerTask[QuantizerStageConfig]):
    """The quantizer gives the features of a teacher for what the encoder, which is trained too, gives it."""

    def __init__(
        self, codec: Codec, teacher: Encoder[Any], *, start: Callable[[], Codec], **options: Any
    ) -> None:
        """`start`: gives the codec as it was before the first step. `options` as in `FeatureTask`."""
        super().__init__(codec, teacher, **options)
        self.start = start
        self._before: dict[str, float] = {}

    def prepare(self) -> None:
        encoder = self.codec.encoder
        for module in encoder.positions if isinstance(encoder, LayeredEncoder) else ():
            module.requires_grad_(False)

    def given(self, codec: Codec, batch: TaughtBatch) -> tuple[Tensor, Tensor]:
        lengths_B = batch.lengths_B
        return codec.encoder(batch.waveform_BS, lengths=lengths_B), codec.encoder.frame_lengths(lengths_B)

    def validate(self) -> dict[str, float]:
        """Return what `QuantizerTask` does, and the MSEs of before the first step."""
        if not self._before:
            self._before = self.measured(self.start().to(self.device).eval())[0]
        return {**super().validate(), **{f"{name}_before": value for name, value in self._before.items()}}
