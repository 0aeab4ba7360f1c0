"""`train_codec`: encoder, quantizer and decoder together, from waveforms alone; any three that fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from wavslm_core.evaluation.config import MetricChoices, metric_configs
from wavslm_core.parts.configs import RecipeView
from wavslm_core.parts.roles import CODEC_ROLES
from wavslm_core.run.context import StageContext
from wavslm_core.stages.base import TrainingStage
from wavslm_core.training.config import CodecTrainingConfig

if TYPE_CHECKING:
    from wavslm_core.model.codec import Codec
    from wavslm_core.training.state import TrainState
    from wavslm_core.training.task import Task


class TrainCodecConfig(CodecTrainingConfig):
    """Train the codec to give back what it hears. It starts from what an earlier stage left, the last one or
    those that `starts_from` names, else from `codec.checkpoint`, else from random weights."""

    run: Literal["train_codec"] = "train_codec"
    metrics: MetricChoices = ()
    """Metrics to compute at each validation: names, or `{name: …, option: …}`."""

    def needed_splits(self) -> tuple[str, ...]:
        return ("train", "valid")

    def leaves(self) -> tuple[str, ...]:
        return ("codec", *super().leaves())


class TrainCodec(TrainingStage[TrainCodecConfig, "Codec"]):
    """Leaves the codec in `<run>/codec` and its numbers in `<run>/results/train_codec.json`.

    What each of several leaves stays: see `recipe.places`.
    """

    def build_model(self, context: StageContext) -> Codec:
        """Return the codec to start from, in which every random weight follows from the recipe's seed."""
        from wavslm_core.model.codec import Codec

        places = self.config.start_places()
        if not places:
            return self._unnamed_start(context)
        codecs = {
            place: Codec.load(context.start(place), device=context.device) for place in set(places.values())
        }
        rest = None if len(places) == len(CODEC_ROLES) else self._unnamed_start(context)
        return Codec(*(getattr(codecs.get(places.get(role, ""), rest), role) for role in CODEC_ROLES))

    def _unnamed_start(self, context: StageContext) -> Codec:
        from wavslm_core.model.codec import Codec
        from wavslm_core.training.device import seed_torch

        earlier = context.earlier("codec")
        if earlier is not None:
            return Codec.load(earlier, device=context.device)
        if context.recipe.codec is not None:
            return Codec.load(context.recipe.codec.checkpoint, device=context.device)
        seed_torch(self.config.seed_in(context), "init", self.config.run)
        return Codec.from_configs(context.recipe.part_configs).to(context.device)

    def make_task(self, model: Codec, context: StageContext) -> Task:
        from wavslm_core.training.codec_task import CodecTask

        return CodecTask(model, **self.task_options(context))

    def task_options(self, context: StageContext) -> dict[str, Any]:
        """Return what a `CodecTask` takes beside the codec."""
        from wavslm_core.parts.plugins import load_registry
        from wavslm_core.training.adversarial import Adversary

        registry = load_registry()
        adversarial = self.config.adversarial
        return {
            "train": context.split("train"),
            "valid": context.split("valid"),
            "config": self.config,
            "batching": self.config.batching(context),
            "metrics": {
                choice.registered_name(): registry.build(choice)
                for choice in metric_configs(self.config.metrics)
            },
            "adversary": None if adversarial is None else Adversary(adversarial, context),
            "processes": context.processes,
        }

    def leave(self, model: Codec, state: TrainState, context: StageContext) -> dict[str, Any]:
        model.eval().save(context.codec_dir)
        parameters = {role: sum(p.numel() for p in getattr(model, role).parameters()) for role in CODEC_ROLES}
        seconds = round(state.tokens / model.facts.token_rate_hz, 1)
        return {"parameters": parameters, "audio_seconds": seconds}

    def plan(self, recipe: RecipeView) -> dict[str, Any]:
        config = self.config
        seconds = config.steps * config.batch_size * config.crop_seconds
        plan: dict[str, Any] = {
            "steps": f"{config.steps}, the first {config.continuous_steps} without codes",
            "batch": f"{config.batch_size} × {config.crop_seconds:g} s",
            "hours of audio": round(seconds / 3600, 2),
            "tokens": round(seconds * recipe.codec_facts().token_rate_hz),
            "precision": config.precision_plan,
            **config.start_plan,
        }
        if config.freeze:
            plan["frozen"] = ", ".join(config.freeze)
        return plan
