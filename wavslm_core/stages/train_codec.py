"""`train_codec`: encoder, quantizer and decoder together, from waveforms alone; any three that fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from wavslm_core.evaluation.config import MetricChoices, metric_configs
from wavslm_core.parts.configs import RecipeView
from wavslm_core.parts.roles import CODEC_ROLES
from wavslm_core.run.context import StageContext
from wavslm_core.stages.base import Stage
from wavslm_core.training.codec_config import CodecTrainingConfig

if TYPE_CHECKING:
    from wavslm_core.model.codec import Codec
    from wavslm_core.training.codec_task import CodecTask
    from wavslm_core.training.state import TrainState


class TrainCodecConfig(CodecTrainingConfig):
    """Train the codec to give back what it hears. It starts from what an earlier stage left, else from
    `codec.checkpoint`, else from random weights."""

    run: Literal["train_codec"] = "train_codec"
    metrics: MetricChoices = ()
    """Metrics to compute at each validation: names, or `{name: …, option: …}`."""

    def needed_splits(self) -> tuple[str, ...]:
        return ("train", "valid")

    def leaves(self) -> tuple[str, ...]:
        return ("codec",)


class TrainCodec(Stage[TrainCodecConfig]):
    """Leaves the codec in `<run>/codec` and its numbers in `<run>/results/train_codec.json`.

    What each of several leaves stays: see `recipe.places`.
    """

    def run(self, context: StageContext) -> None:
        from wavslm_core.training.loop import fit
        from wavslm_core.training.memory import PeakMemory

        memory = PeakMemory(context.device)
        codec = self.build_codec(context)
        task = self.build_task(codec, context)
        state = fit(task, self.config, context, stage=self.name_in(context))
        if context.rank == 0:
            about = {"valid_utterances": task.valid_utterances, "peak_memory_bytes": memory.bytes()}
            self._leave(codec, state, context, about)
        context.processes.barrier()

    def _leave(self, codec: Codec, state: TrainState, context: StageContext, about: dict[str, Any]) -> None:
        codec.eval().save(context.codec_dir)
        parameters = {role: sum(p.numel() for p in getattr(codec, role).parameters()) for role in CODEC_ROLES}
        seconds = round(state.tokens / codec.facts.token_rate_hz, 1)
        results = {"parameters": parameters, "audio_seconds": seconds, **state.results()}
        self.write_results(context, results | about)

    def build_codec(self, context: StageContext) -> Codec:
        """Return the codec to start from, in which every random weight follows from the recipe's seed."""
        from wavslm_core.model.codec import Codec
        from wavslm_core.training.randomness import seed_torch

        earlier = context.earlier("codec")
        if earlier is not None:
            return Codec.load(earlier, device=context.device)
        if context.recipe.codec is not None:
            return Codec.load(context.recipe.codec.checkpoint, device=context.device)
        seed_torch(self.config.seed_in(context), "init", self.config.run)
        return Codec.from_configs(context.recipe.part_configs).to(context.device)

    def build_task(self, codec: Codec, context: StageContext) -> CodecTask:
        from wavslm_core.parts.plugins import load_registry
        from wavslm_core.training.codec_task import CodecTask

        registry = load_registry()
        return CodecTask(
            codec,
            context.split("train"),
            context.split("valid"),
            config=self.config,
            batching=self.config.batching(context),
            metrics={
                choice.registered_name(): registry.build(choice)
                for choice in metric_configs(self.config.metrics)
            },
            processes=context.processes,
        )

    def plan(self, recipe: RecipeView) -> dict[str, Any]:
        config = self.config
        seconds = config.steps * config.batch_size * config.crop_seconds
        plan: dict[str, Any] = {
            "steps": f"{config.steps}, the first {config.continuous_steps} without codes",
            "batch": f"{config.batch_size} × {config.crop_seconds:g} s",
            "hours of audio": round(seconds / 3600, 2),
            "tokens": round(seconds * recipe.codec_facts().token_rate_hz),
            "precision": config.precision_plan,
        }
        if config.freeze:
            plan["frozen"] = ", ".join(config.freeze)
        return plan
