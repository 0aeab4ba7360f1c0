"""What the quantizers of this distribution share: the maps around their codes. No torch here."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from wavslm_core.configs import QuantizerConfig, linked
from wavslm_core.facts import QuantizerFacts


class ConvOptions(BaseModel):
    """Causal convolutions with residual connections."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: Literal["conv"] = "conv"
    dim: int | None = Field(default=None, gt=0)
    """Width inside; null: that of the features."""
    num_layers: int = Field(default=2, ge=0)
    """Residual layers, each a convolution and a linear map."""
    kernel_size: int = Field(default=5, gt=0)
    """Frames that a layer sees, the current one and those before it."""


class LinearOptions(BaseModel):
    """One linear map of each frame."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: Literal["linear"] = "linear"


MapOptions = Annotated[ConvOptions | LinearOptions, Field(discriminator="name")]


class MappedQuantizerConfig(QuantizerConfig):
    """Base of the quantizers with a compressor before their codes and a decompressor after them."""

    loss_weights: ClassVar[dict[str, float]] = {}
    """Name of each loss → its weight in training."""

    input_dim: int = linked("encoder.output_dim")
    """Width of the features, and of the reconstructed ones."""
    compressor: MapOptions = ConvOptions()
    """From features to latents: `{name: conv, …}` or `{name: linear}`."""
    decompressor: MapOptions = ConvOptions()
    """From codes to features: `{name: conv, …}` or `{name: linear}`."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        raise NotImplementedError

    @property
    def latent_dim(self) -> int:
        """Width of latents and codes."""
        raise NotImplementedError

    @property
    def tokens_per_frame(self) -> int:
        return 1

    @property
    def ids_per_place(self) -> int | None:
        """See `QuantizerFacts`."""
        return None

    def facts(self) -> QuantizerFacts:
        return QuantizerFacts(
            input_dim=self.input_dim,
            output_dim=self.input_dim,
            vocab_size=self.vocab_size,
            tokens_per_frame=self.tokens_per_frame,
            ids_per_place=self.ids_per_place,
            losses=self.loss_weights,
            causal=True,
            streams=True,
        )
