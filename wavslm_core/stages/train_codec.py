"""`train_codec`: encoder, quantizer and decoder together, from waveforms alone; any three that fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from wavslm_core.parts.configs import RecipeView
from wavslm_core.run.context import StageContext
from wavslm_core.stages.codec_stage import ResynthesisConfig, ResynthesisStage
from wavslm_core.training.config import CodecTrainingConfig

if TYPE_CHECKING:
    from wavslm_core.model.codec import Codec
    from wavslm_core.training.task import Task


class TrainCodecConfig(CodecTrainingConfig, ResynthesisConfig):
    """Train the codec to give back what it hears. It starts from what an earlier stage left, the last one or
    those that `starts_from` names, else from `codec.checkpoint`, else from random weights."""

    run: Literal["train_codec"] = "train_codec"


class TrainCodec(ResynthesisStage[TrainCodecConfig]):
    """Leaves the codec in `<run>/codec` and its numbers in `<run>/results/train_codec.json`.

    What each of several leaves stays: see `recipe.places`.
    """

    def make_task(self, model: Codec, context: StageContext) -> Task:
        from wavslm_core.training.codec_task import CodecTask

        return CodecTask(model, **self.task_options(context))

    def plan(self, recipe: RecipeView) -> dict[str, Any]:
        config = self.config
        seconds = config.steps * config.batch_size * config.crop_seconds
        plan: dict[str, Any] = {
            "steps": f"{config.steps}, the first {config.continuous_steps} without codes",
            "batch": f"{config.batch_size} × {config.crop_seconds:g} s",
            "hours of audio": round(seconds / 3600, 2),
            "tokens": round(seconds * recipe.codec_facts().token_rate_hz),
            "precision": config.precision_plan,
            **config.corpora_plan,
            **config.start_plan,
        }
        if config.freeze:
            plan["frozen"] = ", ".join(config.freeze)
        return plan | config.adversarial_plan
