"""`train_codec`: encoder, quantizer and decoder together, from waveforms alone; any three that fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from wavslm_core.configs import CODEC_ROLES, Role
from wavslm_core.evaluation.metric_choice import MetricChoice, metric_configs
from wavslm_core.run_context import StageContext
from wavslm_core.stages.base import Stage
from wavslm_core.training.config import TrainingConfig

if TYPE_CHECKING:
    from wavslm_core.codec import Codec
    from wavslm_core.recipe import Recipe
    from wavslm_core.training.codec_task import CodecTask

CodecRole = Literal["encoder", "quantizer", "decoder"]


class TrainCodecConfig(TrainingConfig):
    """Train the codec to give back what it hears; with `codec.checkpoint`, starting from that codec."""

    needs: ClassVar[tuple[Role, ...]] = CODEC_ROLES
    trains: ClassVar[tuple[Role, ...]] = CODEC_ROLES

    run: Literal["train_codec"] = "train_codec"
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
    """Weights of the quantizer's own losses by name, such as `{entropy: 0.1}`; the others are only logged."""
    spectral_windows: tuple[PositiveInt, ...] = Field(default=(512, 1024, 2048), min_length=1)
    """Windows of the mel distance, in samples of the decoder's rate."""
    spectral_floor: float = Field(default=2e-5, gt=0)
    """Amplitude, relative to full scale, below which differences hardly count."""
    freeze: tuple[CodecRole, ...] = ()
    """Parts that stay as they are."""
    valid_utterances: int | None = Field(default=32, gt=0)
    """Validation utterances, evenly spread; null: all."""
    metrics: tuple[MetricChoice, ...] = ()
    """Metrics to compute at each validation: names, or `{name: …, option: …}`."""

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, metrics: tuple[MetricChoice, ...]) -> tuple[MetricChoice, ...]:
        metric_configs(metrics)
        return metrics

    @field_validator("spectral_windows")
    @classmethod
    def _whole_hops(cls, windows: tuple[int, ...]) -> tuple[int, ...]:
        wrong = [size for size in windows if size % 4 or size < 64]
        if wrong:
            raise ValueError(f"windows must be multiples of 4 and at least 64 samples, not {wrong}")
        return windows

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

    def needed_splits(self) -> tuple[str, ...]:
        return ("train", "valid")


class TrainCodec(Stage[TrainCodecConfig]):
    """Leaves the codec in `<run>/codec` and its numbers in `<run>/results/train_codec.json`."""

    def run(self, context: StageContext) -> None:
        from wavslm_core.data.atomic import write_json
        from wavslm_core.evaluation.estimates import json_value
        from wavslm_core.training.loop import fit

        config = self.config
        stage = context.stage_name or config.run
        codec = self.build_codec(context)
        state = fit(self.build_task(codec, context), config, context, stage=stage)
        if context.rank > 0:
            return
        codec.eval().save(context.codec_dir)
        is_best = state.selected_step == state.best_step
        result = {
            "parameters": {
                role: sum(p.numel() for p in getattr(codec, role).parameters()) for role in CODEC_ROLES
            },
            "steps": state.step,
            "tokens": state.tokens,
            "audio_seconds": round(state.tokens / codec.facts.token_rate_hz, 1),
            "seconds": round(state.seconds, 3),
            "skipped_steps": state.skipped,
            "selected_step": state.selected_step,
            "valid": state.best_valid if is_best else state.valid,
        }
        write_json(context.run_dir / "results" / f"{stage}.json", json_value(result))

    def left_results(self, context: StageContext) -> bool:
        return context.codec_dir.exists()

    def build_codec(self, context: StageContext) -> Codec:
        """Return the codec to start from, in which every random weight follows from the recipe's seed."""
        from wavslm_core.codec import Codec
        from wavslm_core.training.randomness import seed_torch

        if context.recipe.codec is not None:
            return Codec.load(context.recipe.codec.checkpoint, device=context.device)
        seed_torch(context.recipe.seed, "init", self.config.run)
        return Codec.from_configs(context.recipe.part_configs()).to(context.device)

    def build_task(self, codec: Codec, context: StageContext) -> CodecTask:
        from wavslm_core.plugins import load_registry
        from wavslm_core.training.codec_task import CodecOptions, CodecTask

        config = self.config
        registry = load_registry()
        return CodecTask(
            codec,
            context.split("train"),
            context.split("valid"),
            options=CodecOptions(
                crop_seconds=config.crop_seconds,
                micro_batch_size=config.micro_batch_size,
                accumulate=config.accumulate,
                seed=context.recipe.seed,
                rank=context.rank,
                world_size=context.world_size,
                continuous_steps=config.continuous_steps,
                spectral_weight=config.spectral_weight,
                feature_weight=config.feature_weight,
                quantizer_weights=config.quantizer_weights,
                spectral_windows=config.spectral_windows,
                spectral_floor=config.spectral_floor,
                frozen=config.freeze,
            ),
            metrics={
                choice.registered_name(): registry.build(choice) for choice in metric_configs(config.metrics)
            },
            valid_utterances=config.valid_utterances,
        )

    def plan(self, recipe: Recipe) -> dict[str, Any]:
        config = self.config
        seconds = config.steps * config.batch_size * config.crop_seconds
        plan: dict[str, Any] = {
            "steps": f"{config.steps}, the first {config.continuous_steps} without codes",
            "batch": f"{config.batch_size} × {config.crop_seconds:g} s",
            "hours of audio": round(seconds / 3600, 2),
            "tokens": round(seconds * recipe.codec_facts().token_rate_hz),
        }
        if config.freeze:
            plan["frozen"] = ", ".join(config.freeze)
        return plan
