"""What `distill_positional` and `distill_encoder` can be told.

Defaults are those of FocalCodec-Stream (arXiv 2509.16195), stages 2 and 3, which are trained in fp32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, TypeVar

from pydantic import Field, NonNegativeFloat

from wavslm_core.plugin import EncoderConfig, RecipeView, Role, StageConfig, TrainingConfig
from wavslm_focalcodec_stream.feature_stage import FeatureTrainingConfig
from wavslm_focalcodec_stream.teacher import TaughtConfig

NO_LAYERS = "has no layers to learn from or to teach. Use an encoder that has, such as wavlm"
LOWEST_WEIGHT = 0.5
"""Of the MSE of the first layer; that of the last is 1; between them weights rise evenly."""


class DistillationConfig(FeatureTrainingConfig, TaughtConfig):
    """Options of stages in which the codec's encoder learns from its full-context twin."""

    trains: ClassVar[tuple[Role, ...]] = ("encoder",)

    def copies_teacher(self, recipe: RecipeView, *, stage_name: str = "") -> bool:
        """Return whether the encoder starts with the weights of the teacher.

        It does unless it has learnt before: in a stage that what this one starts from comes from, or in the
        recipe's checkpoint.
        """
        stages = recipe.named_stages()
        names = [name for name, stage in stages if stage is self or name == stage_name]
        return not _has_learnt(dict(stages), names[0] if names else "", self) and recipe.codec is None

    def problems(self, recipe: RecipeView) -> Iterator[str]:
        yield from super().problems(recipe)
        facts = recipe.codec_facts().encoder
        if not facts.layers:
            yield f"encoder: the codec's encoder {NO_LAYERS}"
        elif not facts.causal:
            yield "encoder: the codec's encoder has full context, as its teacher has. Make it causal"
        if isinstance(self.teacher, EncoderConfig) and not self.teacher.facts().layers:
            yield f"teacher: '{self.teacher.registered_name()}' {NO_LAYERS}"


def _has_learnt(stages: Mapping[str, StageConfig], name: str, stage: StageConfig) -> bool:
    """Return whether a stage before this one has trained the encoder that this one starts from."""
    before = list(stages)[: list(stages).index(name)] if name in stages else list(stages)
    leaving = [other for other in before if "codec" in (stages[other].leaves() or ())]
    places = stage.start_places() if isinstance(stage, TrainingConfig) else {}
    start = places["encoder"].partition("/")[0] if "encoder" in places else (leaving or [""])[-1]
    if start not in before:
        return False
    return "encoder" in stages[start].trains or _has_learnt(stages, start, stages[start])


class DistillPositionalConfig(DistillationConfig):
    """Train the causal encoder's positional convolution to give what its teacher's gives for its input."""

    run: Literal["distill_positional"] = "distill_positional"
    lr: float = Field(default=5e-4, gt=0)
    """Peak learning rate (as published)."""


class DistillEncoderConfig(DistillationConfig):
    """Train the causal encoder to give what its teacher gives, layer by layer; what tells frames where they
    are (positional convolution, bias table) stays."""

    run: Literal["distill_encoder"] = "distill_encoder"
    lr: float = Field(default=5e-5, gt=0)
    """Peak learning rate (as published)."""
    layer_weights: tuple[NonNegativeFloat, ...] = ()
    """Weight of each layer's MSE. Default: evenly from 0.5 to 1, as published for six: 0.5, 0.6 … 1."""

    def weights(self, layers: int) -> tuple[float, ...]:
        """Return the weight of each layer."""
        steps = max(1, layers - 1)
        rising = (1 - (1 - LOWEST_WEIGHT) * (layers - 1 - layer) / steps for layer in range(layers))
        return self.layer_weights or tuple(rising)

    def problems(self, recipe: RecipeView) -> Iterator[str]:
        yield from super().problems(recipe)
        layers, given = recipe.codec_facts().encoder.layers, len(self.layer_weights)
        if given and given != layers:
            yield f"layer_weights has {given} numbers, but the encoder has {layers} layers. Give each one"
        elif given and not any(self.layer_weights):
            yield "layer_weights are all 0: nothing would be learnt"


DistillationConfigT = TypeVar("DistillationConfigT", bound=DistillationConfig)
