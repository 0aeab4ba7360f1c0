"""Tasks of distillation: the distance of what a causal encoder gives to what its full-context twin does.

Frame i of the one is compared with frame i of the other, so that what is trained on the teacher's features,
such as a decoder, is in time with the student's. The teacher's convolutions hear the samples from i · hop on
there, the student's those up to i · hop; the rest of its chunk reaches it through the layers. It has a frame
or two more at the end, for which there is nothing to compare with.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wavslm_core.plugin import (
    Codec,
    Encoder,
    LayeredEncoder,
    LossOutput,
    RecipeError,
    SkipInitialisation,
    Tracker,
    load_registry,
)
from wavslm_focalcodec_stream.distillation_config import (
    NO_LAYERS,
    DistillationConfigT,
    DistillEncoderConfig,
    DistillPositionalConfig,
)
from wavslm_focalcodec_stream.feature_task import (
    FeatureTask,
    TaughtBatch,
    mean_variance,
    moments,
    squared_error,
)


@dataclass
class _Sums:
    """What validation utterances add up to, a number for each layer."""

    frames: int
    errors: list[list[float]]
    """Squared errors, of each encoder that was asked."""
    teacher: list[Tensor]
    """`moments` (2,D) of the teacher's features."""


class DistillationTask(FeatureTask[DistillationConfigT]):
    """The weighted mean of the MSEs of some of an encoder's outputs."""

    def __init__(
        self,
        codec: Codec,
        teacher: Encoder[Any],
        *,
        weights: dict[str, float],
        **options: Any,
    ) -> None:
        """`weights`: of what `learnt` gives, by name. `options` as in `FeatureTask`.

        Raises: RecipeError when the codec's encoder cannot be distilled; CheckpointError when the teacher has
        other sizes.
        """
        super().__init__(codec, teacher, **options)
        self.weights = weights
        self.scales = self.variances() if self.config.relative_error else [1.0] * len(weights)
        """What squared errors are divided by."""
        with SkipInitialisation():
            copy = layered(load_registry().build(self.student.config))
        copy.adopt(teacher)
        # Until the first validation has told how far it is.
        self._copy: LayeredEncoder[Any] | None = copy.eval()
        self._undistilled: list[float] = []
        self._variance: list[float] = []

    @abstractmethod
    def learnt(self, encoder: LayeredEncoder[Any], batch: TaughtBatch) -> list[Tensor]:
        """Return what an encoder gives, (B,T,D) of each output."""

    @property
    def student(self) -> LayeredEncoder[Any]:
        return layered(self.codec.encoder)

    def loss(self, step: int, micro_batch: int) -> LossOutput:
        batch = self.taught(step, micro_batch)
        # A batch may be crops of the very ends of utterances.
        count = max(1, batch.frames)
        mse = {
            name: error / count
            for name, error in zip(self.weights, self._errors(self.student, batch), strict=True)
        }
        frames_B = batch.frame_lengths_B
        return LossOutput(
            self._weighted(torch.stack(list(mse.values()))),
            metrics={f"mse_{name}": value.detach() for name, value in mse.items()},
            weight=count,
            tokens=int(self.codec.quantizer.token_lengths(frames_B).sum()),
            description=self.described(batch.crops),
        )

    def _weighted(self, mse_L: Tensor) -> Tensor:
        weights = [weight / scale for weight, scale in zip(self.weights.values(), self.scales, strict=True)]
        return (mse_L * mse_L.new_tensor(weights)).mean()

    def _errors(self, encoder: LayeredEncoder[Any], batch: TaughtBatch) -> list[Tensor]:
        """Return the sum over valid frames of each output's squared error, a mean over dimensions."""
        pairs = zip(self.learnt(encoder, batch), self.expected(batch), strict=True)
        return [squared_error(learnt_BTD, expected_BTD, batch) for learnt_BTD, expected_BTD in pairs]

    def validate(self) -> dict[str, float]:
        """Return the MSE of each output, also relative to the teacher's variance, and that of the undistilled
        causal copy of the teacher."""
        encoders = [self.student] if self._copy is None else [self.student, self._copy.to(self.device)]
        _, found = self.scored(lambda indices: [self._sums(encoders, indices)])
        frames = sum(sums.frames for sums in found)
        mse, *undistilled = (
            [sum(layer) / frames for layer in zip(*(sums.errors[which] for sums in found), strict=True)]
            for which in range(len(encoders))
        )
        if undistilled:
            self._copy = None
            (self._undistilled,) = undistilled
            layers = zip(*(sums.teacher for sums in found), strict=True)
            self._variance = [mean_variance(layer, frames) for layer in layers]
        values = {"loss": float(self._weighted(torch.tensor(mse, dtype=torch.float64)))}
        for name, after, before, variance in zip(
            self.weights, mse, self._undistilled, self._variance, strict=True
        ):
            values[f"mse_{name}"] = after
            values[f"relative_mse_{name}"] = after / max(variance, 1e-12)
            values[f"undistilled_mse_{name}"] = before
        return values

    def _sums(self, encoders: Sequence[LayeredEncoder[Any]], indices: Sequence[int]) -> _Sums:
        batch = self.taught_valid(indices)
        return _Sums(
            batch.frames,
            [[float(error) for error in self._errors(encoder, batch)] for encoder in encoders],
            [moments(batch.valid(expected_BTD)) for expected_BTD in self.expected(batch)],
        )

    def show(self, tracker: Tracker, step: int) -> None:
        """Log a picture of the last that teacher and student give of a validation utterance."""
        batch = self.taught_valid(self.valid_indices[:1])
        expected_TD = self.expected(batch)[-1][0]
        learnt_TD = self.learnt(self.student, batch)[-1][0, : len(expected_TD)]
        shown = {"teacher": expected_TD, "student": learnt_TD, "difference": learnt_TD - expected_TD}
        tracker.features("features", shown, step)


class PositionalTask(DistillationTask[DistillPositionalConfig]):
    """What the positional convolution gives for the teacher's input of it."""

    reaches_all_weights = True

    def __init__(self, codec: Codec, teacher: Encoder[Any], **options: Any) -> None:
        """`options` as in `FeatureTask`."""
        super().__init__(codec, teacher, weights={"positional": 1.0}, **options)
        codec.encoder.requires_grad_(False)
        self.student.positional.requires_grad_(True)

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"positional": self.student.positional}

    @property
    def outputs(self) -> tuple[str, ...]:
        return "positional_input", "positional"

    @torch.no_grad()
    def teach(self, waveform_BS: Tensor, lengths_B: Tensor) -> list[Tensor]:
        """Return what the teacher's positional convolution is given, and what it gives."""
        teacher = layered(self.teacher)
        given_BTD = teacher.positional_input(waveform_BS, lengths=lengths_B)
        return [given_BTD, teacher.positional(given_BTD)]

    def learnt(self, encoder: LayeredEncoder[Any], batch: TaughtBatch) -> list[Tensor]:
        return [encoder.positional(batch.features[0])]

    def expected(self, batch: TaughtBatch) -> list[Tensor]:
        return batch.features[1:]


class LayersTask(DistillationTask[DistillEncoderConfig]):
    """What the layers give, up to the one whose outputs are the features."""

    def __init__(
        self, codec: Codec, teacher: Encoder[Any], *, config: DistillEncoderConfig, **options: Any
    ) -> None:
        """`options` as in `FeatureTask`."""
        layers = codec.facts.encoder.layers or 0
        weights = dict(zip(range(1, layers + 1), config.weights(layers), strict=True))
        super().__init__(
            codec,
            teacher,
            config=config,
            layers=tuple(weights),
            weights={f"layer_{layer}": weight for layer, weight in weights.items()},
            **options,
        )
        for module in self.student.positions:
            module.requires_grad_(False)

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"encoder": self.codec.encoder}

    def learnt(self, encoder: LayeredEncoder[Any], batch: TaughtBatch) -> list[Tensor]:
        assert self.layers is not None
        states = encoder.hidden_states(batch.waveform_BS, lengths=batch.lengths_B)
        return [states[layer] for layer in self.layers]


def layered(encoder: Encoder[Any]) -> LayeredEncoder[Any]:
    """Return an encoder that can be distilled. Raises: RecipeError for any other."""
    if not isinstance(encoder, LayeredEncoder):
        raise RecipeError(f"encoder '{encoder.config.registered_name()}' {NO_LAYERS}")
    return encoder
