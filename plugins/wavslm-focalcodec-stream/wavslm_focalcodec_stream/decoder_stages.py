"""`train_decoder` and `finetune_decoder`: a decoder learns to make speech of features.

Published is `adversarial: {discriminators: [{name: multi_period}, {name: multi_scale}]}`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from wavslm_core.plugin import RecipeView, ResynthesisStage, StageContext
from wavslm_focalcodec_stream.feature_stage import DecoderStageConfig, FeatureStage
from wavslm_focalcodec_stream.teacher import TaughtConfig, load_teacher

if TYPE_CHECKING:
    from wavslm_core.plugin import Codec, Task


class TrainDecoderConfig(DecoderStageConfig, TaughtConfig):
    """Train the decoder to make speech of a full-context teacher's features, without codes."""

    run: Literal["train_decoder"] = "train_decoder"
    absent_if_unset: ClassVar[tuple[str, ...]] = (
        *DecoderStageConfig.absent_if_unset,
        *(name for name in TaughtConfig.absent_if_unset if name not in DecoderStageConfig.absent_if_unset),
    )


class TrainDecoder(FeatureStage[TrainDecoderConfig], ResynthesisStage[TrainDecoderConfig]):
    """Leaves the codec with the decoder as trained, and the discriminators, if there are any."""

    def make_task(self, model: Codec, context: StageContext) -> Task:
        from wavslm_focalcodec_stream.decoder_task import DecoderTask

        return DecoderTask(model, load_teacher(self.config, model, context), **self.task_options(context))

    def plan(self, recipe: RecipeView) -> dict[str, Any]:
        return {**self.config.teacher_plan, **self.config.decoder_plan}


class FinetuneDecoderConfig(DecoderStageConfig):
    """Train the decoder further on what it will be given: the codec's own features, through codes.

    Not published. `adversarial: {}` goes on against the discriminators that `train_decoder` left.
    """

    run: Literal["finetune_decoder"] = "finetune_decoder"


class FinetuneDecoder(FeatureStage[FinetuneDecoderConfig], ResynthesisStage[FinetuneDecoderConfig]):
    """Leaves the codec with the decoder as trained, and the discriminators, if there are any."""

    def make_task(self, model: Codec, context: StageContext) -> Task:
        from wavslm_focalcodec_stream.decoder_task import CodedDecoderTask

        return CodedDecoderTask(model, model.encoder, **self.task_options(context))

    def plan(self, recipe: RecipeView) -> dict[str, Any]:
        return self.config.decoder_plan
