"""Configs of parts that break their contract; see `broken_parts`. No torch, as in any plugin."""

from dataclasses import replace

from pydantic import Field

from wavslm_core.parts.facts import (
    BackboneFacts,
    DecoderFacts,
    EncoderFacts,
    HeadFacts,
    QuantizerFacts,
    SamplerFacts,
)
from wavslm_core.testing.fake_configs import (
    FakeBackboneConfig,
    FakeDecoderConfig,
    FakeEncoderConfig,
    FakeHeadConfig,
    FakeQuantizerConfig,
    FakeSamplerConfig,
)


class OfflineEncoderConfig(FakeEncoderConfig):
    """Neither causal nor streaming."""

    def facts(self) -> EncoderFacts:
        return replace(super().facts(), causal=False, streams=False)


class WrongRateConfig(FakeEncoderConfig):
    """States half of its hop."""

    def facts(self) -> EncoderFacts:
        return replace(super().facts(), hop_samples=self.hop_samples // 2)


class NamelessFieldConfig(FakeEncoderConfig):
    """Has an option without help text."""

    width: int = 3


class ForgetfulConfig(FakeEncoderConfig):
    """Loses an option when it is written down."""

    width: int = Field(default=3, exclude=True)
    """An option."""


class WrongIdsPerPlaceConfig(FakeQuantizerConfig):
    """Says that two ids are all that can stand at a place."""

    def facts(self) -> QuantizerFacts:
        return replace(super().facts(), ids_per_place=2)


class WrongVocabularyConfig(FakeQuantizerConfig):
    """States half of its codes."""

    def facts(self) -> QuantizerFacts:
        return replace(super().facts(), vocab_size=2 ** (self.bits - 1), code_parts=None)


class WrongCodePartsConfig(FakeQuantizerConfig):
    """States a bit more than its codes have."""

    def facts(self) -> QuantizerFacts:
        return replace(super().facts(), code_parts=(2,) * (self.bits + 1))


class WrongDelayConfig(FakeDecoderConfig):
    """States less than its delay."""

    def facts(self) -> DecoderFacts:
        return replace(super().facts(), delay_samples=self.delay_samples - 1)


class WrongWindowConfig(FakeBackboneConfig):
    """States a window, but remembers everything."""

    def facts(self) -> BackboneFacts:
        return replace(super().facts(), window_tokens=3)


class WrongKindConfig(FakeHeadConfig):
    """Says that it draws bits, but draws tokens."""

    def facts(self) -> HeadFacts:
        return replace(super().facts(), draws="symbols")


class GreedyFactConfig(FakeSamplerConfig):
    """Says that nothing is left to chance."""

    def facts(self) -> SamplerFacts:
        return SamplerFacts(greedy=True)


class HistoryFactConfig(FakeSamplerConfig):
    """Says that it looks at history."""

    def facts(self) -> SamplerFacts:
        return SamplerFacts(history_tokens=5)
