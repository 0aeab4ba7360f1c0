"""How to train: options with the same names for every stage that trains, and what the codec's adds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from wavslm_core.machine.processes import uneven_batch
from wavslm_core.model.documents import DISCRIMINATORS, discriminator_problems
from wavslm_core.parts.augment_config import augment_of
from wavslm_core.parts.blocks import Block
from wavslm_core.parts.configs import (
    Config,
    CorpusConfig,
    DiscriminatorConfig,
    Options,
    RecipeView,
    Role,
    StageConfig,
)
from wavslm_core.parts.roles import CODEC_ROLES

if TYPE_CHECKING:
    from wavslm_core.data.batches import Batching
    from wavslm_core.run.context import StageContext


ScheduleName = Literal["cosine", "exponential", "plateau", "constant"]


def _whole_hops(windows: tuple[int, ...]) -> tuple[int, ...]:
    wrong = [size for size in windows if size % 4 or size < 64]
    if wrong:
        raise ValueError(f"windows must be multiples of 4 and at least 64 samples, not {wrong}")
    return windows


SpectralWindows = Annotated[tuple[PositiveInt, ...], Field(min_length=1), AfterValidator(_whole_hops)]
"""Samples of each of several spectrograms, whose windows overlap by three quarters."""


class OptimizerConfig(Options):
    """How weights are changed: what each player of a task may have for itself."""

    lr: float = Field(default=1e-4, gt=0)
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the first and second moment."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's decoupled weight decay; vectors (biases, norms, scales) are never decayed."""
    schedule: ScheduleName = "cosine"
    """`exponential` falls by the same factor in every step; `plateau` multiplies the rate by 0.9 whenever the
    validation loss gains, relative to the one before, less than 0.0025."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the rate rises linearly from zero."""
    min_lr_ratio: float = Field(default=0.0, ge=0, le=1)
    """What is left of the peak rate at the end of a cosine or exponential schedule."""
    clip_norm: float | None = Field(default=5.0, gt=0)
    """Gradients are scaled down to this norm; null: they stay."""

    @model_validator(mode="after")
    def _falls_to_something(self) -> Self:
        if self.schedule == "exponential" and not self.min_lr_ratio:
            raise ValueError(
                "an exponential schedule falls to min_lr_ratio, which is 0: give what is to be left, as 0.1"
            )
        return self


class _Batches(StageConfig):
    """How much is seen."""

    steps: int = Field(gt=0)
    """Optimizer steps."""
    batch_size: int = Field(default=16, gt=0)
    """Items per optimizer step, over all processes and accumulated micro-batches; each micro-batch is shared
    evenly by the processes, so that their number changes how fast a run is and not what it computes."""
    accumulate: int = Field(default=1, gt=0)
    """Micro-batches per optimizer step; divides `batch_size`."""


class TrainingConfig(OptimizerConfig, _Batches):
    """Options that every training stage has."""

    absent_if_unset: ClassVar[tuple[str, ...]] = ("launch", "starts_from", "activation_checkpointing")

    starts_from: str | dict[Role, str] | None = None
    """Earlier stage, by its name, whose weights this one starts from, such as `train_codec`; or one for each
    part, such as `{encoder: distil, decoder: train_codec_2}`. Default: the last one that left any."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training steps. `auto` is bf16 where the device computes it natively and a batch through
    the parts proves it right, and fp32 elsewhere; `bf16` refuses to train where it is wrong. Validation, and
    all that is shown and left, is fp32."""
    activation_checkpointing: bool | None = None
    """Keep only what goes into each layer, and compute what is inside again in the backward pass: less
    memory for a sixth to a third more time, and the same weights. Default: no."""
    validate_every: int = Field(default=500, gt=0)
    """Steps between validations; one is always made at the end."""
    checkpoint_every: int = Field(default=500, gt=0)
    """Steps between checkpoints; one is always made at the end."""
    keep_checkpoints: int = Field(default=2, gt=0)
    """Checkpoints kept; older ones are deleted."""
    log_every: int = Field(default=10, gt=0)
    """Steps between lines in metrics.jsonl and TensorBoard."""
    show_every: int = Field(default=1000, gt=0)
    """Steps between spectrograms and audio in TensorBoard; made at the end too."""
    select: Literal["last", "best"] = "last"
    """Weights that the stage leaves behind: those after the last step, or those with the lowest validation
    loss."""
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    """Initial weights, the order of the data and dropout follow from it. Default: the recipe's."""

    @model_validator(mode="after")
    def _accumulation_divides_batch(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size is {self.batch_size}, which accumulate ({self.accumulate}) does not divide; "
                "choose a divisor"
            )
        return self

    @model_validator(mode="after")
    def _starts_with_what_it_trains(self) -> Self:
        if self.starts_from is not None and not self.trains:
            raise ValueError("starts_from: this stage does not say which parts it trains. Leave it out")
        others = [role for role in self.start_places() if role not in self.start_roles]
        if others:
            raise ValueError(
                f"starts_from names {', '.join(others)}, but what this stage starts with is "
                f"{', '.join(self.start_roles)}: name only these"
            )
        return self

    @property
    def start_roles(self) -> tuple[Role, ...]:
        """Parts that the stage starts with, those of them that it does not train included."""
        return self.trains

    def start_places(self) -> dict[Role, str]:
        """Return what is started from by name: part → `<stage>/<path>`, as `StageContext.start` reads it."""
        stages = self.starts_from or {}
        if isinstance(stages, str):
            stages = dict.fromkeys(self.start_roles, stages)
        return {
            role: f"{stage}/{'codec' if role in CODEC_ROLES else 'speech_lm'}"
            for role, stage in stages.items()
        }

    @property
    def start_plan(self) -> dict[str, str]:
        """What `--dry-run` says of where training starts, when it is given by name."""
        places = dict.fromkeys(self.start_places().values())
        return {"starts from": ", ".join(places)} if places else {}

    def reads(self) -> dict[str, str]:
        return dict.fromkeys(self.start_places().values(), "let `starts_from` name one that does")

    def problems(self, recipe: RecipeView) -> Iterator[str]:
        problem = uneven_batch(
            self.micro_batch_size,
            accumulate=self.accumulate,
            world_size=recipe.launch_for(self).world_size,
        )
        if problem:
            yield problem

    @property
    def micro_batch_size(self) -> int:
        """Items that pass through the model at once, in all processes together."""
        return self.batch_size // self.accumulate

    @property
    def precision_plan(self) -> str:
        """What `--dry-run` says of the arithmetic."""
        how = {
            "auto": "trains in bf16 if this machine does and the parts prove it right, else in fp32",
            "bf16": "trains in bf16, once the parts prove it right",
            "fp32": "trains in fp32",
        }
        return f"{how[self.precision]}; validates in fp32"

    def item_bytes(self, recipe: RecipeView) -> int:
        """Return the least memory that one training item takes, for plans; 0 when that is not known."""
        return 0

    def seed_in(self, context: StageContext) -> int:
        """Return what every random number of this stage follows from."""
        return context.recipe.seed if self.seed is None else self.seed

    def batching(self, context: StageContext) -> Batching:
        """Return how this process takes its part of each step. Raises: RecipeError for uneven parts."""
        from wavslm_core.data.batches import Batching

        return Batching(
            micro_batch_size=self.micro_batch_size,
            accumulate=self.accumulate,
            seed=self.seed_in(context),
            rank=context.rank,
            world_size=context.world_size,
        )


CodecRole = Literal["encoder", "quantizer", "decoder"]


class AudioTrainingConfig(TrainingConfig):
    """Options of stages that train on waveforms."""

    crop_seconds: float = Field(default=1.0, gt=0)
    """Audio in one training item; rounded to whole chunks."""
    valid_utterances: int | None = Field(default=32, gt=0)
    """Validation utterances, evenly spread; null: all."""

    def problems(self, recipe: RecipeView) -> Iterator[str]:
        yield from super().problems(recipe)
        augment = augment_of(recipe.data)
        if augment is not None:
            rate_hz = getattr(recipe.facts.get("encoder"), "sample_rate_hz", None)
            for problem in augment.problems(crop_seconds=self.crop_seconds, sample_rate_hz=rate_hz):
                yield f"data.augment.{problem}"


class CodecStageConfig(AudioTrainingConfig):
    """Options of stages that train parts of a codec and leave all of it."""

    needs: ClassVar[tuple[Role, ...]] = CODEC_ROLES
    absent_if_unset: ClassVar[tuple[str, ...]] = (
        *AudioTrainingConfig.absent_if_unset,
        *("train_on", "validate_on"),
    )

    train_on: Annotated[CorpusConfig, Block("corpus")] | None = None
    """Corpus of this stage's training split, such as `{corpus: libritts, path: …}`; by default `data`'s."""
    validate_on: Annotated[CorpusConfig, Block("corpus")] | None = None
    """Corpus of its validation split, likewise."""

    @property
    def start_roles(self) -> tuple[Role, ...]:
        return CODEC_ROLES

    @property
    def own_corpora(self) -> dict[str, CorpusConfig]:
        """Split → corpus, of those that the stage takes from elsewhere than from `data`."""
        given = {"train": self.train_on, "valid": self.validate_on}
        return {split: corpus for split, corpus in given.items() if corpus is not None}

    @property
    def corpora_plan(self) -> dict[str, str]:
        """What `--dry-run` says of them."""
        named = [f"{corpus.registered_name()} ({split})" for split, corpus in self.own_corpora.items()]
        return {"speech of its own": ", ".join(named)} if named else {}

    def needed_splits(self) -> tuple[str, ...]:
        return tuple(split for split in ("train", "valid") if split not in self.own_corpora)

    def leaves(self) -> tuple[str, ...]:
        return ("codec",)


class QuantizerLossConfig(CodecStageConfig):
    """Options of stages in which a quantizer learns by its own losses, too."""

    quantizer_weights: dict[str, float] = Field(default_factory=dict)
    """Weights of the quantizer's own losses by name, such as `{entropy: 0.2}`, in place of those that the
    quantizer brings along; 0: the loss is only logged."""

    def problems(self, recipe: RecipeView) -> Iterator[str]:
        yield from super().problems(recipe)
        known = recipe.codec_facts().quantizer.losses
        unknown = [name for name in self.quantizer_weights if name not in known]
        if unknown:
            yield (
                f"quantizer_weights names {', '.join(unknown)}, but the quantizer's losses are: "
                f"{', '.join(known) or 'none'}. Use one of these names or leave the weight out"
            )


class AdversarialConfig(OptimizerConfig):
    """Discriminators that tell speech from what is given back, and the two terms that they add to the loss.

    They train in turns with what they judge, by the options of an optimizer beside these. Losses are hinge
    losses (arXiv 1705.02894) and feature matching (arXiv 1910.06711). Weights and rates are those of
    FocalCodec-Stream's decoder (arXiv 2509.16195), whose log-mel distance weighs 45 beside them.
    """

    discriminators: tuple[Annotated[DiscriminatorConfig, Block("discriminator")], ...] = ()
    """New discriminators, such as `[{name: multi_period}, {name: multi_scale}]`. Left out: those that `init`
    names, by default what an earlier stage left."""
    init: str | None = None
    """Discriminators to start from: those of an earlier stage of the recipe, by its name, or a folder, with a
    slash in it, such as `runs/other/discriminators`."""
    weight: float = Field(default=1.0, ge=0)
    """Weight of the adversarial term: a sum over sub-discriminators."""
    feature_matching_weight: float = Field(default=54.0, ge=0)
    """Weight of the mean distance of what layers give for the two waveforms: a mean over layers, so that 54
    makes it the sum over the 54 of `multi_period` and `multi_scale`."""
    starts_at_step: int = Field(default=0, ge=0)
    """Steps before which there is no adversary: neither do discriminators train, nor do they add to the
    loss."""
    collapse_steps: int | None = Field(default=2000, gt=0)
    """Steps for which discriminators may win outright or tell nothing apart after a warning said so; then
    training ends with an error. null: it goes on."""
    lr: float = Field(default=4e-4, gt=0)
    """Peak learning rate of the discriminators."""
    betas: tuple[float, float] = (0.8, 0.99)
    """AdamW's decay rates of the first and second moment."""
    schedule: ScheduleName = "constant"
    """As that of the stage, for the discriminators; both watch the same validation loss."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Gradients of the discriminators are scaled down to this norm; null: they are taken as they are."""

    @model_validator(mode="after")
    def _judgement_counts(self) -> Self:
        if not self.weight and not self.feature_matching_weight:
            raise ValueError("weight and feature_matching_weight are both 0: leave `adversarial` out")
        return self

    @property
    def start_place(self) -> str | None:
        """What is started from as `StageContext.start` reads it; None for new ones and those of a folder."""
        if self.init is None:
            return None if self.discriminators else DISCRIMINATORS
        return None if {"/", "\\", ".", "~"} & {*self.init} else f"{self.init}/{DISCRIMINATORS}"


class AdversarialTrainingConfig(CodecStageConfig):
    """Options of stages that train what gives waveforms, alone or against discriminators."""

    absent_if_unset: ClassVar[tuple[str, ...]] = (*CodecStageConfig.absent_if_unset, "adversarial")

    adversarial: AdversarialConfig | None = None
    """Discriminators to train against; none by default."""

    @model_validator(mode="after")
    def _adversary_plays(self) -> Self:
        if self.adversarial is not None and self.adversarial.starts_at_step >= self.steps:
            raise ValueError(
                f"adversarial.starts_at_step is {self.adversarial.starts_at_step}, but there are only "
                f"{self.steps} steps: let it start earlier, or leave `adversarial` out"
            )
        return self

    def reads(self) -> dict[str, str]:
        place = None if self.adversarial is None else self.adversarial.start_place
        remedy = (
            "name new ones, such as `discriminators: [{name: multi_period}, {name: multi_scale}]`, in "
            "`adversarial`, or let its `init` name a folder or a stage that trains with some"
        )
        return super().reads() | ({} if place is None else {place: remedy})

    def leaves(self) -> tuple[str, ...]:
        return super().leaves() + (() if self.adversarial is None else (DISCRIMINATORS,))

    @property
    def adversarial_plan(self) -> dict[str, str]:
        """What `--dry-run` says of discriminators."""
        if self.adversarial is None:
            return {}
        names = [one.registered_name() for one in self.adversarial.discriminators]
        against = ", ".join(names) or f"those in {self.adversarial.init or self.adversarial.start_place}"
        return {"against": f"{against}, from step {self.adversarial.starts_at_step} on"}

    def trains_beside(self) -> tuple[Config, ...]:
        return () if self.adversarial is None else self.adversarial.discriminators

    def problems(self, recipe: RecipeView) -> Iterator[str]:
        yield from super().problems(recipe)
        adversarial = self.adversarial
        if adversarial is not None and adversarial.init is not None and adversarial.start_place is None:
            found = discriminator_problems(adversarial.init, adversarial.discriminators, recipe.registry)
            yield from (f"adversarial.init: {problem}" for problem in found)


class CodecTrainingConfig(AdversarialTrainingConfig, QuantizerLossConfig):
    """Options of training encoder, quantizer and decoder together."""

    trains: ClassVar[tuple[Role, ...]] = CODEC_ROLES

    continuous_steps: int = Field(default=0, ge=0)
    """First steps in which latents pass unrounded; keeps the codebook from collapsing."""
    spectral_weight: float = Field(default=1.0, ge=0)
    """Weight of the mel distance between original and reconstruction."""
    feature_weight: float = Field(default=0.0, ge=0)
    """Weight of the distance between the encoder's features and the quantizer's, both normalised; the
    gradient goes to the quantizer's only."""
    spectral_windows: SpectralWindows = (512, 1024, 2048)
    """Windows of the mel distance, in samples of the decoder's rate."""
    spectral_floor: float = Field(default=2e-5, gt=0)
    """Amplitude, relative to full scale, below which differences hardly count."""
    freeze: tuple[CodecRole, ...] = ()
    """Parts that stay as they are."""

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
