"""What the codec's task sees and what it is judged by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from wavslm_core.parts.configs import RecipeView, Role
from wavslm_core.parts.roles import CODEC_ROLES
from wavslm_core.training.config import TrainingConfig

CodecRole = Literal["encoder", "quantizer", "decoder"]


class CodecTrainingConfig(TrainingConfig):
    """Options of training encoder, quantizer and decoder together."""

    needs: ClassVar[tuple[Role, ...]] = CODEC_ROLES
    trains: ClassVar[tuple[Role, ...]] = CODEC_ROLES

    crop_seconds: float = Field(default=1.0, gt=0)
    """Audio in one training item; rounded to whole chunks."""
    continuous_steps: int = Field(default=0, ge=0)
    """First steps in which latents pass unrounded; keeps the codebook from collapsing."""
    spectral_weight: float = Field(default=1.0, ge=0)
    """Weight of the mel distance between original and reconstruction."""
    feature_weight: float = Field(default=0.0, ge=0)
    """Weight of the distance between the encoder's features and the quantizer's, both normalised; the
    gradient goes to the quantizer's only."""
    quantizer_weights: dict[str, float] = Field(default_factory=dict)
    """Weights of the quantizer's own losses by name, such as `{entropy: 0.2}`, in place of those that the
    quantizer brings along; 0: the loss is only logged."""
    spectral_windows: tuple[PositiveInt, ...] = Field(default=(512, 1024, 2048), min_length=1)
    """Windows of the mel distance, in samples of the decoder's rate."""
    spectral_floor: float = Field(default=2e-5, gt=0)
    """Amplitude, relative to full scale, below which differences hardly count."""
    freeze: tuple[CodecRole, ...] = ()
    """Parts that stay as they are."""
    valid_utterances: int | None = Field(default=32, gt=0)
    """Validation utterances, evenly spread; null: all."""

    @field_validator("spectral_windows")
    @classmethod
    def _whole_hops(cls, windows: tuple[int, ...]) -> tuple[int, ...]:
        wrong = [size for size in windows if size % 4 or size < 64]
        if wrong:
            raise ValueError(f"windows must be multiples of 4 and at least 64 samples, not {wrong}")
        return windows

    def problems(self, recipe: RecipeView) -> Iterator[str]:
        yield from super().problems(recipe)
        known = recipe.codec_facts().quantizer.losses
        unknown = [name for name in self.quantizer_weights if name not in known]
        if unknown:
            yield (
                f"quantizer_weights names {', '.join(unknown)}, but the quantizer's losses are: "
                f"{', '.join(known) or 'none'}. Use one of these names or leave the weight out"
            )

    def item_bytes(self, recipe: RecipeView) -> int:
        # What is heard and what is given back, in four bytes a sample.
        return round(2 * 4 * self.crop_seconds * recipe.codec_facts().encoder.sample_rate_hz)

    @model_validator(mode="after")
    def _something_to_train(self) -> Self:
        if len(set(self.freeze)) == len(self.trains):
            raise ValueError("freeze names all three parts: leave out the one that is to be trained")
        if not self.spectral_weight and not self.feature_weight:
            raise ValueError("spectral_weight and feature_weight are both 0: nothing would be learnt")
        if self.continuous_steps >= self.steps:
            raise ValueError(
                f"continuous_steps is {self.continuous_steps}, but there are only {self.steps} steps: leave "
                "some for training through codes"
            )
        return self
