"""Options of pretraining: what is trained, what it predicts, and what is mixed into what it hears."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from wavslm_core.plugin import (
    AudioTrainingConfig,
    Block,
    CorpusConfig,
    EncoderConfig,
    Options,
    RecipeError,
    RecipeView,
    Role,
    StageConfig,
)
from wavslm_wavlm.config import SAMPLE_RATE_HZ, WavLMConfig

Decibels = tuple[float, float]
PRETRAIN = "put a stage that leaves an encoder before it, such as `- {run: pretrain_encoder}`"
"""What to do when there is no encoder to read."""
INSTALL_SKLEARN = "pip install 'wavslm-wavlm[pretraining]'"


class TargetsConfig(Options):
    """Which clusters of the clean speech are predicted."""

    clusters: int = Field(default=100, ge=2, le=1 << 16)
    """Clusters of k-means. HuBERT (2106.07447) takes 100 of MFCCs, then 500 of hidden states."""
    encoder: Annotated[EncoderConfig | str, Block("encoder", or_stage=True)] | None = None
    """Encoder whose hidden states are clustered, such as `{name: wavlm, checkpoint: …}`, or the name of an
    earlier stage that left one. Default: none, and MFCCs are: 13 with their first and second differences."""
    cepstra: Literal["raw", "normalized"] = "raw"
    """`normalized`: MFCCs have zero mean and unit variance in each utterance, so that clusters know little of
    who speaks. HuBERT's are raw; those of few voices make clusters that other voices have no part in."""
    layer: int | None = Field(default=None, ge=0)
    """Layer of that encoder; 0 is the input of the first. HuBERT takes 6 of 12. Default: its features."""
    fitted_frames: int = Field(default=200_000, gt=0)
    """Frames that k-means is fitted to: of whole training utterances, drawn at random."""

    @model_validator(mode="after")
    def _layer_of_something(self) -> Self:
        if self.layer is not None and self.encoder is None:
            raise ValueError("layer is given, but no encoder that has layers: give one in `encoder`")
        return self


class MixingConfig(Options):
    """What is mixed into an utterance, from one random place to another, while its own clusters stay to be
    predicted. Defaults: WavLM (2110.13900)."""

    probability: float = Field(default=0.2, ge=0, le=1)
    """Share of the utterances into which anything is mixed."""
    noise_probability: float = Field(default=0.1, ge=0, le=1)
    """Share of these into which noise is mixed; into the others another training utterance."""
    longest: float = Field(default=0.5, gt=0, le=1)
    """Longest mixed part, relative to the utterance; any length up to it is as likely."""
    speech_ratio_db: Decibels = (-5.0, 5.0)
    """Range of the energy of the utterance, relative to the other one."""
    noise_ratio_db: Decibels = (-5.0, 20.0)
    """The same, relative to noise."""
    noise: Annotated[CorpusConfig, Block("corpus")] | None = None
    """Recordings of noise: the training split of a corpus, such as `{corpus: folder, path: …}`. Default:
    Gaussian noise whose spectrum falls by a random 0 (white) to 6 dB (brown) an octave."""

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name in ("speech_ratio_db", "noise_ratio_db"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} goes from {low:g} to {high:g}: give the lower one first")
        return self


class PretrainEncoderConfig(AudioTrainingConfig):
    """Train a WavLM with full context to predict the clusters of clean speech where it is hidden. Weights are
    random, as published, unless `starts_from` names an earlier stage."""

    trains: ClassVar[tuple[Role, ...]] = ("encoder",)

    run: Literal["pretrain_encoder"] = "pretrain_encoder"
    encoder: Annotated[EncoderConfig, Block("encoder")] | None = None
    """What to train: a `wavlm`, which is given full context. Default: the recipe's encoder."""
    targets: TargetsConfig = TargetsConfig()
    """Which clusters are predicted."""
    mixing: MixingConfig = MixingConfig()
    """What is mixed into the speech that is heard."""
    mask_probability: float = Field(default=0.08, gt=0, le=1)
    """Share of the frames at which a hidden span begins (HuBERT; WavLM keeps it)."""
    mask_frames: int = Field(default=10, gt=0)
    """Frames that a span hides; spans overlap, so that by default 57 % of the frames are hidden."""
    heard_weight: float = Field(default=0.0, ge=0)
    """Weight in the loss of a frame that is not hidden; a hidden one has 1."""
    projection_dim: int = Field(default=256, gt=0)
    """Width in which hidden states are compared with the clusters' embeddings (HuBERT)."""
    temperature: float = Field(default=0.1, gt=0)
    """What cosines are divided by (HuBERT)."""
    lr: float = Field(default=5e-4, gt=0)
    """Peak learning rate (HuBERT and WavLM, base)."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's decay rates of the first and second moment (HuBERT)."""
    crop_seconds: float = Field(default=15.6, gt=0)
    """Audio in one training item; rounded to whole frames (HuBERT: 250,000 samples)."""

    def needed_splits(self) -> tuple[str, ...]:
        return ("train", "valid")

    def needs_modules(self) -> dict[str, str]:
        return {"sklearn": INSTALL_SKLEARN}

    def leaves(self) -> tuple[str, ...]:
        return ("encoder", "clusters")

    def start_places(self) -> dict[Role, str]:
        stage = self.starts_from.get("encoder") if isinstance(self.starts_from, dict) else self.starts_from
        return {} if stage is None else {"encoder": f"{stage}/encoder"}

    def reads(self) -> dict[str, str]:
        reads = super().reads()
        if isinstance(self.targets.encoder, str):
            reads[f"{self.targets.encoder}/encoder"] = "let `targets.encoder` name one that does"
        return reads

    def trained_config(self, recipe: RecipeView) -> WavLMConfig:
        """Return what is trained. Raises: RecipeError when it is no WavLM."""
        config = self.encoder or recipe.part_configs.get("encoder")
        if not isinstance(config, WavLMConfig):
            found = "there is none" if config is None else f"this is a '{config.registered_name()}'"
            raise RecipeError(
                f"encoder: a `wavlm` is trained, but {found}. Give `encoder: {{name: wavlm, …}}` in the stage"
            )
        return config.model_copy(update={"causal": False})

    def problems(self, recipe: RecipeView) -> Iterator[str]:
        yield from super().problems(recipe)
        targets = self.targets
        if not self.start_places():
            try:
                hop_samples = self.trained_config(recipe).hop_samples
            except RecipeError as error:
                yield str(error)
                return
            if isinstance(targets.encoder, EncoderConfig):
                problem = clustering_problem(targets.encoder, layer=targets.layer, hop_samples=hop_samples)
                yield from filter(None, [problem])
        elif self.encoder is not None:
            yield "encoder: starts_from brings an encoder along. Leave one of the two out"

    def item_bytes(self, recipe: RecipeView) -> int:
        return round(4 * self.crop_seconds * SAMPLE_RATE_HZ)


def clustering_problem(config: EncoderConfig, *, layer: int | None, hop_samples: int) -> str:
    """Return why an encoder's hidden states are no targets for one of that many samples a frame, if so."""
    facts = config.facts()
    if (facts.sample_rate_hz, facts.hop_samples) != (SAMPLE_RATE_HZ, hop_samples):
        return (
            f"targets.encoder gives a frame every {facts.hop_samples} samples at {facts.sample_rate_hz} Hz, "
            f"but the encoder that is trained every {hop_samples} at {SAMPLE_RATE_HZ} Hz: their clusters "
            "would not be those of its frames. Name an encoder of the same frame rate"
        )
    if layer is not None and layer > (facts.layers or 0):
        return (
            f"targets.layer is {layer}, but what '{config.registered_name()}' gives has passed "
            f"{facts.layers or 'no'} layers that can be seen: choose one of them, or leave it out"
        )
    return ""


class ProbeEncoderConfig(StageConfig):
    """Say how well speakers and sounds are told apart by logistic regression on an encoder's frozen features,
    beside those of the same encoder with random weights. Sounds are clusters of MFCCs that are normalised in
    each utterance, so that they know little of the speaker."""

    run: Literal["probe_encoder"] = "probe_encoder"
    encoder: str | None = None
    """Earlier stage whose encoder is probed. Default: the last one that left any."""
    layer: int | None = Field(default=None, ge=0)
    """Layer whose hidden states are probed; 0 is the input of the first. Default: the encoder's features."""
    split: str = "valid"
    """Split whose utterances are divided in two: one half teaches, the other one is asked."""
    utterances: int | None = Field(default=200, gt=3)
    """Utterances, evenly spread; null: all."""
    sounds: int = Field(default=50, ge=2)
    """Clusters; English has about as many phones."""
    frames: int = Field(default=10_000, gt=0)
    """Frames that teach sounds at most, evenly spread, and as many that are asked."""

    def needed_splits(self) -> tuple[str, ...]:
        return (self.split,)

    def needs_modules(self) -> dict[str, str]:
        return {"sklearn": INSTALL_SKLEARN}

    @property
    def place(self) -> str:
        """Where an earlier stage left the encoder."""
        return "encoder" if self.encoder is None else f"{self.encoder}/encoder"

    def reads(self) -> dict[str, str]:
        return {self.place: PRETRAIN}

    def leaves(self) -> tuple[str, ...]:
        return ()
