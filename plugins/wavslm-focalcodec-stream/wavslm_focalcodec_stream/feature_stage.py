"""What stages that learn from features have in common; defaults are FocalCodec-Stream's (2509.16195)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import Field, model_validator

from wavslm_core.plugin import (
    CodecStage,
    CodecStageConfig,
    QuantizerLossConfig,
    RecipeView,
    ResynthesisConfig,
    Role,
    ScheduleName,
    SpectralWindows,
    StageContext,
)


class FeatureConfig(CodecStageConfig):
    """Options of stages that learn from the features of whole utterances."""

    longest_seconds: float = Field(default=320.0, gt=0)
    """Longer utterances are left out: each is heard whole, however short the crop (as published)."""
    teacher_cache: bool = False
    """Keep what the teacher gives for each utterance in the runs' `.cache`, in float16, instead of letting it
    hear every utterance in every epoch. Without a teacher it is the codec's own encoder that is heard."""

    def problems(self, recipe: RecipeView) -> Iterator[str]:
        yield from super().problems(recipe)
        if self.teacher_cache and getattr(recipe.data, "augment", None) is not None:
            yield (
                "teacher_cache: data.augment changes what is heard from epoch to epoch: nothing can be kept. "
                "Leave one of the two out"
            )

    def item_bytes(self, recipe: RecipeView) -> int:
        # What is heard, in four bytes a sample.
        return round(4 * self.crop_seconds * recipe.codec_facts().encoder.sample_rate_hz)


FeatureConfigT = TypeVar("FeatureConfigT", bound=FeatureConfig)


class FeatureStage(CodecStage[FeatureConfigT]):
    """One that learns from features."""

    def task_options(self, context: StageContext) -> dict[str, Any]:
        cached_in = context if self.config.teacher_cache else None
        return {**super().task_options(context), "cached_in": cached_in}


class FeatureTrainingConfig(FeatureConfig):
    """Options of stages that bring features closer to others (2 to 5, as published)."""

    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's decay rates of the first and second moment (as published)."""
    schedule: ScheduleName = "plateau"
    """How the rate falls: on a plateau of the validation loss (as published), or otherwise."""
    select: Literal["last", "best"] = "best"
    """Weights that the stage leaves behind: those with the lowest validation loss (as published), or those
    after the last step."""
    relative_error: bool = False
    """Divide squared errors by the variance of what is wanted, measured on validation utterances. Then layers
    of large features count no more than those of small ones, and the weights of other losses and the gain
    that ends a plateau mean the same for any encoder. Published is the plain error, of WavLM's features."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic of training steps (fp32 as published); a teacher is in fp32 in any case."""
    crop_seconds: float = Field(default=320.0, gt=0)
    """Audio in one training item at most: whole utterances (as published). Memory grows with it: use
    `accumulate`, or shorter crops."""

    @property
    def feature_plan(self) -> dict[str, Any]:
        """What `--dry-run` says."""
        return {
            "steps": self.steps,
            "batch": f"{self.batch_size} × {self.crop_seconds:g} s at most",
            "precision": self.precision_plan,
            **self.corpora_plan,
            **self.start_plan,
        }


class QuantizerStageConfig(FeatureTrainingConfig, QuantizerLossConfig):
    """Options of stages whose quantizer learns to give features (4 and 5)."""

    lr: float = Field(default=5e-5, gt=0)
    """Peak learning rate (as published; 5e-4 for the offline FocalCodec)."""


class DecoderStageConfig(ResynthesisConfig, FeatureConfig):
    """Options of stages whose decoder learns to make speech of features (1, as published)."""

    trains: ClassVar[tuple[Role, ...]] = ("decoder",)

    batch_size: int = Field(default=32, gt=0)
    """Items per optimizer step (as published), over all processes and accumulated micro-batches."""
    crop_seconds: float = Field(default=3.0, gt=0)
    """Audio that the decoder makes of one training item (as published)."""
    longest_seconds: float = Field(default=60.0, gt=0)
    """Longer utterances are left out: features are those of whole utterances (as published)."""
    lr: float = Field(default=4e-4, gt=0)
    """Peak learning rate (as published)."""
    betas: tuple[float, float] = (0.8, 0.99)
    """AdamW's decay rates of the first and second moment (as published)."""
    schedule: ScheduleName = "exponential"
    """How the rate falls: exponentially (as published), or otherwise."""
    min_lr_ratio: float = Field(default=0.95, ge=0, le=1)
    """What is left of the peak rate in the end. Published is a factor of 0.999 every two epochs: 0.956 after
    a million steps with LibriTTS, whose epoch is 11 080 of 32."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Gradients are scaled down to this norm; null: they stay (as published)."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic of training steps (fp32 as published); a teacher is in fp32 in any case."""
    spectral_weight: float = Field(default=45.0, gt=0)
    """Weight of the log-mel distance (as published)."""
    spectral_windows: SpectralWindows | None = None
    """Windows of the log-mel distance, in samples of the decoder's rate; null: one of 43 ms (published)."""
    spectral_floor: float | None = Field(default=None, gt=0)
    """Amplitude, relative to full scale, below which differences hardly count, with `spectral_windows`;
    1e-3, -60 dB, lets short trainings learn speech before they learn silence."""

    @model_validator(mode="after")
    def _floor_of_windows(self) -> Self:
        if self.spectral_floor is not None and self.spectral_windows is None:
            raise ValueError("spectral_floor belongs to spectral_windows, which is null: give both")
        return self

    @property
    def decoder_plan(self) -> dict[str, Any]:
        """What `--dry-run` says."""
        return {
            "steps": self.steps,
            "batch": f"{self.batch_size} × {self.crop_seconds:g} s",
            "hours of audio": round(self.steps * self.batch_size * self.crop_seconds / 3600, 2),
            **self.adversarial_plan,
            "precision": self.precision_plan,
            **self.corpora_plan,
            **self.start_plan,
        }


QuantizerStageConfigT = TypeVar("QuantizerStageConfigT", bound=QuantizerStageConfig)
DecoderStageConfigT = TypeVar("DecoderStageConfigT", bound=DecoderStageConfig)
