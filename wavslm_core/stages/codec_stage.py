"""What stages that train a codec or parts of it have in common: where it comes from, and what they leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from wavslm_core.evaluation.config import (
    MetricChoices,
    metric_configs,
    modules_asked_for,
    splits_asked_for,
)
from wavslm_core.parts.roles import CODEC_ROLES
from wavslm_core.run.context import StageContext
from wavslm_core.stages.base import TrainingStage
from wavslm_core.training.config import AdversarialTrainingConfig, CodecStageConfig

if TYPE_CHECKING:
    from wavslm_core.model.codec import Codec
    from wavslm_core.training.state import TrainState

CodecConfigT = TypeVar("CodecConfigT", bound=CodecStageConfig)


class ResynthesisConfig(AdversarialTrainingConfig):
    """Options of stages whose codec learns to give back what it hears."""

    metrics: MetricChoices = ()
    """Metrics to compute at each validation: names, or `{name: …, option: …}`."""

    def needed_splits(self) -> tuple[str, ...]:
        return (*super().needed_splits(), *splits_asked_for(self.metrics))

    def needs_modules(self) -> dict[str, str]:
        return modules_asked_for(self.metrics)


ResynthesisConfigT = TypeVar("ResynthesisConfigT", bound=ResynthesisConfig)


class CodecStage(TrainingStage[CodecConfigT, "Codec"], Generic[CodecConfigT]):
    """One that trains parts of a codec: it leaves a whole one, in which the others are as they were."""

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
        seed_torch(self.config.seed_in(context), "init", self.config.registered_name())
        return Codec.from_configs(context.recipe.part_configs).to(context.device)

    def task_options(self, context: StageContext) -> dict[str, Any]:
        """Return what an `AudioTask` takes beside its rates."""
        own = self.config.own_corpora
        return {
            **{split: context.split(split, own.get(split)) for split in ("train", "valid")},
            "config": self.config,
            "batching": self.config.batching(context),
            "processes": context.processes,
        }

    def leave(self, model: Codec, state: TrainState, context: StageContext) -> dict[str, Any]:
        model.eval().save(context.codec_dir)
        parameters = {role: sum(p.numel() for p in getattr(model, role).parameters()) for role in CODEC_ROLES}
        seconds = round(state.tokens / model.facts.token_rate_hz, 1)
        return {"parameters": parameters, "audio_seconds": seconds}


class ResynthesisStage(CodecStage[ResynthesisConfigT]):
    """One whose codec learns to give back what it hears."""

    def task_options(self, context: StageContext) -> dict[str, Any]:
        """Return what a `ResynthesisTask` takes beside its rates."""
        from wavslm_core.training.adversarial import Adversary

        adversarial = self.config.adversarial
        return {
            **super().task_options(context),
            "metrics": context.metrics(metric_configs(self.config.metrics)),
            "adversary": None if adversarial is None else Adversary(adversarial, context),
        }
