"""How audio is changed before it is trained on: the block `augment` of a recipe's `data:`; off by default.

    data:
      corpus: folder
      path: speech
      augment: {noise: {snr_db: [5, 30]}, gain: {}}

Everything that trains hears the same: student and teacher, encoder and decoder. Validation, tokenising and
evaluation never do. `data.augment` is what does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, cast

from pydantic import AfterValidator, Field, PositiveInt

from wavslm_core.parts.configs import DataConfig, Options


def _in_order(given: tuple[float, float]) -> tuple[float, float]:
    if given[0] > given[1]:
        raise ValueError(f"given {list(given)}; the lower end of a range comes first.")
    return given


Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[tuple[Number, Number], AfterValidator(_in_order)]
"""From, to; what is drawn is uniform between them."""
PositiveRange = Annotated[tuple[Positive, Positive], AfterValidator(_in_order)]
ShareRange = Annotated[tuple[Share, Share], AfterValidator(_in_order)]
CountRange = Annotated[tuple[PositiveInt, PositiveInt], AfterValidator(_in_order)]


class EffectConfig(Options):
    """What every effect has."""

    probability: Share = 0.5
    """How many of the items it happens to."""


class NoiseConfig(EffectConfig):
    """Coloured noise on top."""

    snr_db: Range = (5.0, 30.0)
    """Signal-to-noise ratio over the item."""
    colour: Range = (0.0, 2.0)
    """Exponent by which its power falls with frequency: 0 is white, 1 pink, 2 brown, below 0 blue."""


class OverlapConfig(EffectConfig):
    """A stretch of another training utterance on top."""

    probability: Share = 0.2
    """How many of the items it happens to."""
    level_db: Range = (-15.0, -5.0)
    """How much louder than the item the other one is."""
    share: ShareRange = (0.2, 1.0)
    """How much of the item it lasts."""


class GainConfig(EffectConfig):
    """Louder or softer as a whole."""

    gain_db: Range = (-12.0, 6.0)
    """How much. What would exceed full scale is as loud as fits."""


class FrequencyDropConfig(EffectConfig):
    """Narrow bands taken out."""

    bands: CountRange = (1, 3)
    """How many."""
    width_hz: PositiveRange = (50.0, 300.0)
    """How wide each is."""
    frequency_hz: PositiveRange = (100.0, 7000.0)
    """Where their centres are."""


class ChunkDropConfig(EffectConfig):
    """Short stretches of silence."""

    per_second: PositiveRange = (0.5, 2.0)
    """How many in a second; one at least."""
    seconds: PositiveRange = (0.01, 0.1)
    """How long each is."""


class AugmentConfig(Options):
    """Effects, in the order in which they happen; those that are left out do not."""

    target: Literal["same", "clean"] = "same"
    """What a codec has to give back: `same`: what it hears; `clean`: the speech alone, as loud as it is
    heard, which makes it a denoiser."""
    overlap: OverlapConfig | None = None
    """Another training utterance, mixed in."""
    noise: NoiseConfig | None = None
    """Coloured noise."""
    frequency_drop: FrequencyDropConfig | None = None
    """Narrow bands taken out."""
    chunk_drop: ChunkDropConfig | None = None
    """Short stretches of silence."""
    gain: GainConfig | None = None
    """Louder or softer."""

    @property
    def effects(self) -> dict[str, EffectConfig]:
        """Name → options of each effect that there is."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: effect for name, effect in found.items() if isinstance(effect, EffectConfig)}

    def described(self) -> str:
        """Return in a line what is done, for plans."""
        effects = [f"{name} of {effect.probability:.0%}" for name, effect in self.effects.items()]
        return f"{', '.join(effects) or 'none'}; target {self.target}"

    def problems(self, *, crop_seconds: float, sample_rate_hz: int | None) -> Iterator[str]:
        """Yield what does not fit the items of a training at the rate that is heard, a line each."""
        drop, notch = self.chunk_drop, self.frequency_drop
        if drop is not None and drop.seconds[1] >= crop_seconds:
            yield (
                f"chunk_drop.seconds reaches to {drop.seconds[1]:g}, but an item has {crop_seconds:g} s of "
                "audio, of which nothing may be left. Make stretches shorter or crop_seconds longer"
            )
        if notch is not None and sample_rate_hz is not None and 2 * notch.frequency_hz[1] > sample_rate_hz:
            yield (
                f"frequency_drop.frequency_hz reaches to {notch.frequency_hz[1]:g}, but what is heard, at "
                f"{sample_rate_hz} Hz, has nothing above {sample_rate_hz / 2:g}. Lower it"
            )


def augment_of(data: DataConfig | None) -> AugmentConfig | None:
    """Return the block `augment` of a recipe's data, if it has one."""
    return None if data is None else cast("AugmentConfig | None", data.augment)
