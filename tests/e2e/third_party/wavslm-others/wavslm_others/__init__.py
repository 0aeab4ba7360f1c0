"""What somebody else might publish: a vector quantizer of pairs of frames and a sampler that looks back."""

from typing import Literal

from pydantic import Field

from wavslm_core.plugin import (
    QuantizerConfig,
    QuantizerFacts,
    Register,
    SamplerConfig,
    SamplerFacts,
    hookimpl,
    linked,
)


class NearestConfig(QuantizerConfig):
    """The nearest of learned vectors, one for each two frames."""

    name: Literal["nearest"] = "nearest"
    input_dim: int = linked("encoder.output_dim")
    """Width of the features."""
    codes: int = Field(default=256, gt=1)
    """Number of vectors."""
    dim: int = Field(default=8, gt=0)
    """Their width."""

    def facts(self) -> QuantizerFacts:
        return QuantizerFacts(
            input_dim=self.input_dim,
            output_dim=self.input_dim,
            vocab_size=self.codes,
            frames_per_token=2,
            losses={"commitment": 0.25},
            chunk_frames=2,
            causal=True,
            streams=True,
        )


class NoRepeatConfig(SamplerConfig):
    """Never the token that was drawn last."""

    name: Literal["no_repeat"] = "no_repeat"

    def facts(self) -> SamplerFacts:
        return SamplerFacts(history_tokens=1)


@hookimpl
def register_quantizers(register: Register) -> None:
    register(NearestConfig, "wavslm_others.parts:Nearest")


@hookimpl
def register_samplers(register: Register) -> None:
    register(NoRepeatConfig, "wavslm_others.parts:NoRepeat")
