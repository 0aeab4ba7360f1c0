"""Options of the quantizers with a table of codes: `vq`, `sim_vq`, `residual` and `k_means`."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from wavslm_core.plugin import Options, QuantizerConfig, QuantizerFacts, linked
from wavslm_vector_quantize.config import MappedQuantizerConfig

Gradient = Literal["straight_through", "rotation"]


class CodebookOptions(Options):
    """How a codebook follows the vectors that it codes, while training. It has no gradients."""

    initial: Literal["k_means", "random"] = "k_means"
    """First codes: clusters of the first training batch, or normal random ones."""
    k_means_iterations: int = Field(default=10, gt=0)
    """Iterations of the initial clustering."""
    decay: float = Field(default=0.99, ge=0, lt=1)
    """A code is the mean of what it coded, this much of it kept from one batch to the next."""
    dead_code_share: float = Field(default=0.1, ge=0, lt=1)
    """A code used less than this part of an equal share is replaced by a vector of the batch; 0: never."""


class TableConfig(MappedQuantizerConfig):
    """Base of the quantizers whose codes are vectors of a table."""

    code_dim: int = Field(default=16, gt=0)
    """Width of latents and codes."""

    @property
    def latent_dim(self) -> int:
        return self.code_dim


class OneTableConfig(TableConfig):
    """Base of the quantizers with one table of codes, one of which stands for a frame."""

    codebook_size: int = Field(default=4096, ge=2)
    """Number of codes."""

    @property
    def vocab_size(self) -> int:
        return self.codebook_size


class VqConfig(OneTableConfig):
    """Vector quantisation with a codebook of moving averages (VQ-VAE, 1711.00937)."""

    loss_weights: ClassVar[dict[str, float]] = {"commitment": 0.25}

    name: Literal["vq"] = "vq"
    distance: Literal["euclidean", "cosine"] = "euclidean"
    """`cosine`: latents and codes have norm one."""
    gradient: Gradient = "straight_through"
    """How gradients pass the codes: unchanged, or rotated with latent and code (2410.06424)."""
    codebook: CodebookOptions = CodebookOptions()
    """How the codes are learnt."""


class SimVqConfig(OneTableConfig):
    """Fixed random vectors under one learnt linear map: no code is left behind (SimVQ, 2411.02038)."""

    loss_weights: ClassVar[dict[str, float]] = {"codebook": 1.0, "commitment": 0.25}

    name: Literal["sim_vq"] = "sim_vq"
    gradient: Gradient = "rotation"
    """How gradients pass the codes: unchanged, or rotated with latent and code (2410.06424)."""


class ResidualConfig(TableConfig):
    """Residual vector quantisation as one stream: each level codes what the ones before it left.

    A frame is `num_levels` tokens in a row, coarse to fine; each level has token ids of its own.
    """

    loss_weights: ClassVar[dict[str, float]] = {"commitment": 0.25}

    name: Literal["residual"] = "residual"
    num_levels: int = Field(default=2, gt=0)
    """Codes per frame."""
    codes_per_level: int = Field(default=64, ge=2)
    """Number of codes of each level."""
    codebook: CodebookOptions = CodebookOptions()
    """How the codes are learnt."""

    @property
    def vocab_size(self) -> int:
        return self.num_levels * self.codes_per_level

    @property
    def tokens_per_frame(self) -> int:
        return self.num_levels

    @property
    def ids_per_place(self) -> int:
        return self.codes_per_level


class KMeansConfig(QuantizerConfig):
    """Units as in HuBERT: a token names the nearest of a set of centroids of the encoder's features.

    There is nothing before or after the centroids: the decoder and the language model read them as they are.
    Centroids follow the features by mini-batch k-means while the codec trains.
    """

    name: Literal["k_means"] = "k_means"
    input_dim: int = linked("encoder.output_dim")
    """Width of features and centroids."""
    codebook_size: int = Field(default=500, ge=2)
    """Number of centroids."""
    deduplicate: bool = False
    """The language model reads a run of equal units as one token, of as many ids as units times `max_run`."""
    max_run: int = Field(default=8, ge=2)
    """With `deduplicate`: frames that a token stands for at most; longer runs become several tokens."""
    gradient: Literal["none", "straight_through"] = "none"
    """What the encoder learns from the decoder: nothing through the units, or as if they were features."""
    codebook: CodebookOptions = CodebookOptions()
    """How the centroids are learnt."""

    @model_validator(mode="after")
    def _lengths_are_told_apart(self) -> Self:
        if self.input_dim and self.ids_per_unit > self.input_dim:
            raise ValueError(
                f"max_run is {self.max_run}, but features of width {self.input_dim} tell no more than "
                f"{self.input_dim} lengths apart: use {self.input_dim} or less"
            )
        return self

    @property
    def ids_per_unit(self) -> int:
        """Lengths of runs that are told apart."""
        return self.max_run if self.deduplicate else 1

    def facts(self) -> QuantizerFacts:
        return QuantizerFacts(
            input_dim=self.input_dim,
            output_dim=self.input_dim,
            vocab_size=self.codebook_size * self.ids_per_unit,
            ids_per_place=self.codebook_size,
            max_run=self.ids_per_unit,
            losses={"commitment": 0.0},
            causal=True,
            streams=True,
        )
