"""`train_quantizer`, `train_codec_joint`, `train_decoder`, `finetune_decoder`: the codec, part by part.

Published is, for decoders, `adversarial: {discriminators: [{name: multi_period}, {name: multi_scale}]}`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from wavslm_core.plugin import RecipeView, ResynthesisStage, Role, StageContext
from wavslm_focalcodec_stream.feature_stage import DecoderStageConfig, FeatureStage, QuantizerStageConfig
from wavslm_focalcodec_stream.teacher import TaughtConfig, load_teacher

if TYPE_CHECKING:
    from wavslm_core.plugin import Codec, Task


class TrainQuantizerConfig(QuantizerStageConfig):
    """Train the quantizer to give back the features of the codec's encoder, which stays as it is.

    A refiner of several frames is left out, and is the identity afterwards: `train_codec_joint` trains it.
    """

    run: Literal["train_quantizer"] = "train_quantizer"
    trains: ClassVar[tuple[Role, ...]] = ("quantizer",)


class TrainQuantizer(FeatureStage[TrainQuantizerConfig]):
    """Leaves the codec with the quantizer as trained."""

    def make_task(self, model: Codec, context: StageContext) -> Task:
        from wavslm_focalcodec_stream.quantizer_task import QuantizerTask

        return QuantizerTask(model, model.encoder, **self.task_options(context))

    def plan(self, recipe: RecipeView) -> dict[str, Any]:
        return self.config.feature_plan


class TrainCodecJointConfig(QuantizerStageConfig, TaughtConfig):
    """Train encoder and quantizer together, the refiner included, to give the features of a full-context
    teacher; what tells the encoder's frames where they are (positional convolution, bias table) stays."""

    run: Literal["train_codec_joint"] = "train_codec_joint"
    trains: ClassVar[tuple[Role, ...]] = ("encoder", "quantizer")

    def problems(self, recipe: RecipeView) -> Iterator[str]:
        yield from super().problems(recipe)
        facts = recipe.codec_facts().quantizer
        if facts.output_dim != facts.input_dim:
            yield (
                f"quantizer: it gives features of width {facts.output_dim}, and those of the teacher have "
                f"{facts.input_dim}: nothing could be compared. Leave out `quantizer.output_dim`"
            )


class TrainCodecJoint(FeatureStage[TrainCodecJointConfig]):
    """Leaves the codec with encoder and quantizer as trained."""

    def make_task(self, model: Codec, context: StageContext) -> Task:
        from wavslm_focalcodec_stream.quantizer_task import JointTask

        teacher = load_teacher(self.config, model, context)
        start = partial(self.build_model, context)
        return JointTask(model, teacher, start=start, **self.task_options(context))

    def plan(self, recipe: RecipeView) -> dict[str, Any]:
        return {**self.config.teacher_plan, **self.config.feature_plan}


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
