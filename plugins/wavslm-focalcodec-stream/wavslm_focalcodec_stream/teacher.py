"""The teacher: a frozen encoder, mostly one with full context, whose features a codec learns from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

from wavslm_core.plugin import (
    Block,
    EncoderConfig,
    EncoderFacts,
    RecipeError,
    RecipeView,
    StageContext,
)
from wavslm_focalcodec_stream.feature_stage import FeatureConfig

if TYPE_CHECKING:
    from wavslm_core.plugin import Codec, Encoder, LayeredEncoder

SIZES = ("sample_rate_hz", "hop_samples", "output_dim")
"""What of a teacher's facts must be as in those of the codec's encoder."""


class TaughtConfig(FeatureConfig):
    """Options of stages in which a codec, or a part of it, learns from the features of a teacher."""

    absent_if_unset: ClassVar[tuple[str, ...]] = (*FeatureConfig.absent_if_unset, "teacher")

    teacher: Annotated[EncoderConfig | str, Block("encoder", or_stage=True)] | None = None
    """Encoder whose features are learnt from, such as `{name: wavlm, checkpoint: microsoft/wavlm-large}`, or
    the name of an earlier stage that left one. Default: the last encoder that an earlier stage left. Of a
    deeper one than the codec's, as many layers are taken as that has."""

    def reads(self) -> dict[str, str]:
        reads = super().reads()
        if not isinstance(self.teacher, EncoderConfig):
            reads[self.teacher_place] = (
                "put a stage that leaves an encoder before it, such as `- {run: pretrain_encoder}`, or give "
                "`teacher: {name: …, checkpoint: …}`"
            )
        return reads

    @property
    def teacher_place(self) -> str:
        """Where an earlier stage left the teacher, unless it is given as a block."""
        return "encoder" if self.teacher is None else f"{self.teacher}/encoder"

    def problems(self, recipe: RecipeView) -> Iterator[str]:
        yield from super().problems(recipe)
        if isinstance(self.teacher, EncoderConfig):
            yield from misfits(self.teacher.facts(), recipe.codec_facts().encoder)

    @property
    def teacher_plan(self) -> dict[str, str]:
        """What `--dry-run` says of the teacher."""
        if isinstance(self.teacher, EncoderConfig):
            checkpoint = getattr(self.teacher, "checkpoint", None)
            return {
                "teacher": f"{self.teacher.registered_name()}{f' from {checkpoint}' if checkpoint else ''}"
            }
        return {"teacher": f"what {self.teacher or 'an earlier stage'} left"}


def misfits(teacher: EncoderFacts, student: EncoderFacts) -> Iterable[str]:
    """Yield why features of a teacher cannot be those of a codec's encoder, in one line, if they cannot."""
    pairs = {name: (getattr(teacher, name), getattr(student, name)) for name in SIZES}
    differing = [
        f"{name} is {there}, the codec's encoder has {here}"
        for name, (there, here) in pairs.items()
        if there != here and None not in (there, here)
    ]
    if teacher.layers is not None and teacher.layers < (student.layers or 0):
        differing.append(f"layers are {teacher.layers}, the codec's encoder has {student.layers}")
    if differing:
        yield f"teacher: {'; '.join(differing)}. Give the teacher the sizes of the codec's encoder"


def load_teacher(config: TaughtConfig, codec: Codec, context: StageContext) -> Encoder[Any]:
    """Return the teacher of a stage, frozen and in eval mode. It is no part of what is trained or saved.

    Raises: RecipeError when it does not fit the codec; CheckpointError.
    """
    from wavslm_core.plugin import load_encoder, load_registry, seed_torch

    if isinstance(config.teacher, EncoderConfig):
        seed_torch(config.seed_in(context), "teacher")
        teacher = cast("Encoder[Any]", load_registry().build(config.teacher))
    else:
        teacher = load_encoder(context.start(config.teacher_place))
    for problem in misfits(teacher.config.facts(), codec.facts.encoder):
        raise RecipeError(f"{context.stage_name or config.registered_name()}: {problem}")
    layers = codec.facts.encoder.layers
    if layers and (teacher.config.facts().layers or 0) > layers:
        # What the codec's encoder is to give, and no more than that.
        teacher = cast("LayeredEncoder[Any]", teacher).lowest(layers)
    return teacher.to(context.device).eval().requires_grad_(False)
