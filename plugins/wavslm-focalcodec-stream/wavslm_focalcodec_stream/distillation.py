"""`distill_positional` and `distill_encoder`: a causal encoder learns what its full-context twin gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wavslm_core.plugin import RecipeView, StageContext
from wavslm_focalcodec_stream.distillation_config import (
    DistillationConfigT,
    DistillEncoderConfig,
    DistillPositionalConfig,
)
from wavslm_focalcodec_stream.feature_stage import FeatureStage
from wavslm_focalcodec_stream.teacher import load_teacher

if TYPE_CHECKING:
    from wavslm_core.plugin import Codec, Encoder, Task, TrainState


class DistillationStage(FeatureStage[DistillationConfigT]):
    """Leaves the codec with the encoder as trained, and the MSE of each layer before and after."""

    teacher: Encoder[Any]

    def build_model(self, context: StageContext) -> Codec:
        from wavslm_focalcodec_stream.distillation_task import layered

        codec = super().build_model(context)
        self.teacher = load_teacher(self.config, codec, context)
        if self.config.copies_teacher(context.recipe, stage_name=context.stage_name):
            layered(codec.encoder).adopt(self.teacher)
        return codec

    def leave(self, model: Codec, state: TrainState, context: StageContext) -> dict[str, Any]:
        valid = state.results()["valid"]
        mse = {
            name.removeprefix("mse_"): {
                "undistilled": valid[f"undistilled_{name}"],
                "distilled": value,
                "relative": valid[f"relative_{name}"],
            }
            for name, value in valid.items()
            if name.startswith("mse_")
        }
        table = {
            "caption": "How far the causal encoder is from its teacher: mean squared error",
            "header": ["", "undistilled copy", "distilled", "relative to the teacher's variance"],
            "rows": [[name.replace("_", " "), *numbers.values()] for name, numbers in mse.items()],
        }
        return {**super().leave(model, state, context), "mse": mse, "tables": [table]}

    def plan(self, recipe: RecipeView) -> dict[str, Any]:
        config = self.config
        copies = config.copies_teacher(recipe)
        start = {"starts from": "a copy of the teacher"} if copies else {}
        return {**config.teacher_plan, **config.feature_plan, **start}


class DistillPositional(DistillationStage[DistillPositionalConfig]):
    """See `DistillationStage`."""

    def make_task(self, model: Codec, context: StageContext) -> Task:
        from wavslm_focalcodec_stream.distillation_task import PositionalTask

        return PositionalTask(model, self.teacher, **self.task_options(context))


class DistillEncoder(DistillationStage[DistillEncoderConfig]):
    """See `DistillationStage`."""

    def make_task(self, model: Codec, context: StageContext) -> Task:
        from wavslm_focalcodec_stream.distillation_task import LayersTask

        return LayersTask(model, self.teacher, **self.task_options(context))
