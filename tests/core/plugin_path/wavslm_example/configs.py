"""Configs that core's own fakes lack: nested options, a chunked backbone, corpora, a checkpoint format."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from wavslm_core.parts.configs import (
    BackboneConfig,
    CorpusConfig,
    FormatConfig,
    PartConfig,
    QuantizerConfig,
    RecipeView,
    Role,
    SamplerConfig,
    StageConfig,
    linked,
)
from wavslm_core.parts.facts import BackboneFacts, QuantizerFacts, SamplerFacts
from wavslm_core.testing.fake_configs import FakeDecoderConfig, FakeEncoderConfig, FakeQuantizerConfig


class Squeeze(BaseModel):
    """Options of a nested block."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    factor: int = Field(default=2, gt=0)


class NestedQuantizerConfig(QuantizerConfig):
    """A quantizer with a nested block that is not causal."""

    name: Literal["nested"] = "nested"
    input_dim: int = linked("encoder.output_dim")
    squeeze: Squeeze = Squeeze()

    def facts(self) -> QuantizerFacts:
        return QuantizerFacts(input_dim=self.input_dim, output_dim=self.input_dim, vocab_size=8)


class ChunkedBackboneConfig(BackboneConfig):
    """A backbone that works in chunks."""

    name: Literal["chunked"] = "chunked"
    input_dim: int = linked("quantizer.output_dim")
    vocab_size: int = linked("quantizer.vocab_size")
    chunk_tokens: int = 4
    causal: bool = True

    def facts(self) -> BackboneFacts:
        return BackboneFacts(
            input="features",
            input_dim=self.input_dim,
            output_dim=self.input_dim,
            chunk_tokens=self.chunk_tokens,
            causal=self.causal,
            streams=False,
        )


class WarmSamplerConfig(SamplerConfig):
    """A sampler with an option."""

    name: Literal["warm"] = "warm"
    temperature: float = Field(default=1.0, gt=0)

    def facts(self) -> SamplerFacts:
        return SamplerFacts()


class ToneConfig(CorpusConfig):
    """Any amount of tone."""

    corpus: Literal["tone"] = "tone"
    minutes: float = 30.0

    def expected_seconds(self, split: str) -> float | None:
        return 60 * self.minutes


class ShelfConfig(CorpusConfig):
    """Recordings of an unknown amount."""

    corpus: Literal["shelf"] = "shelf"
    path: str


class LearnConfig(StageConfig):
    """A stage with every kind of need."""

    run: Literal["learn"] = "learn"
    needs: ClassVar[tuple[Role, ...]] = ("encoder", "quantizer", "backbone", "head")
    trains: ClassVar[tuple[Role, ...]] = ("backbone", "head")
    steps: int = 10
    splits: tuple[str, ...] = ("train", "valid")

    def needs_streaming(self, recipe: RecipeView) -> tuple[Role, ...]:
        return ("backbone",)

    def needed_splits(self) -> tuple[str, ...]:
        return self.splits


class TinyFormatConfig(FormatConfig):
    """Folders whose `config.json` has a `tiny` number: the width of all three parts."""

    format: Literal["tiny"] = "tiny"

    def holds(self, document: dict[str, Any]) -> Literal["codec", "speech_lm"] | None:
        if "tiny" not in document:
            return None
        return "speech_lm" if document.get("speaks") else "codec"

    def part_configs(self, document: dict[str, Any]) -> dict[Role, PartConfig]:
        return {
            "encoder": FakeEncoderConfig(dim=document["tiny"]),
            "quantizer": FakeQuantizerConfig(),
            "decoder": FakeDecoderConfig(),
        }

    def document(self, parts: dict[Role, PartConfig]) -> dict[str, Any] | None:
        return None

    def known_document(self, checkpoint: str) -> dict[str, Any] | None:
        return {"tiny": 24} if checkpoint == "example/tiny" else None
