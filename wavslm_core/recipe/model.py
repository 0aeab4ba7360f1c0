"""The recipe: what a run is made of and what it does, as plain data.

`loading` reads one, `resolving` fills in what parts take from each other, `checks` says what does not fit.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field, PrivateAttr

from wavslm_core.errors import RecipeError
from wavslm_core.parts.configs import (
    BackboneConfig,
    Config,
    DataConfig,
    DecoderConfig,
    EncoderConfig,
    HeadConfig,
    Options,
    PartConfig,
    QuantizerConfig,
    Role,
    SamplerConfig,
    StageConfig,
)
from wavslm_core.parts.facts import CodecFacts
from wavslm_core.parts.registry import Registry
from wavslm_core.parts.roles import CODEC_ROLES, PART_ROLES
from wavslm_core.recipe.launch_block import LaunchConfig, LocalLaunch
from wavslm_core.recipe.sweep_block import SweepConfig


class CodecCheckpoint(Config):
    """A trained codec, instead of encoder, quantizer and decoder blocks."""

    checkpoint: str = Field(min_length=1)
    """Folder, registered name (`wavslm plugins` lists them) or hub id, in our format or in another one."""


class Recipe(Options):
    """What a run is made of and what it does."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the run's folder."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Every random number of a run follows from it."""
    codec: CodecCheckpoint | None = None
    """A trained codec, instead of encoder, quantizer and decoder blocks."""
    encoder: EncoderConfig | None = None
    """Waveform to features."""
    quantizer: QuantizerConfig | None = None
    """Features to one stream of tokens and back."""
    decoder: DecoderConfig | None = None
    """Features to waveform."""
    backbone: BackboneConfig | None = None
    """Features or tokens to hidden states."""
    head: HeadConfig | None = None
    """Hidden states to the probabilities of the next chunk."""
    sampler: SamplerConfig | None = None
    """Probabilities to tokens."""
    data: DataConfig | None = None
    """One corpus for every split, or `train:`, `valid:` and `test:` blocks."""
    stages: tuple[StageConfig, ...] = ()
    """What to do, in this order."""
    launch: LaunchConfig = LocalLaunch()
    """Where to run."""
    sweep: SweepConfig | None = None
    """Variations of everything above, to run and compare."""

    _document: dict[str, Any] = PrivateAttr(default_factory=dict)
    _source: str = PrivateAttr(default="recipe")
    _registry: Registry = PrivateAttr(default_factory=Registry)

    @property
    def source(self) -> str:
        """The file that this recipe came from, for messages."""
        return self._source

    @property
    def registry(self) -> Registry:
        """What its blocks are registered in."""
        return self._registry

    def unvalidated(self) -> dict[str, Any]:
        """Return the document that this recipe was read from, overrides applied and before any default."""
        return self._document

    def parts(self) -> dict[Role, PartConfig]:
        """Return role → config for the part blocks of this recipe, as given."""
        return {role: getattr(self, role) for role in PART_ROLES if getattr(self, role) is not None}

    def named_stages(self) -> list[tuple[str, StageConfig]]:
        """Return the stages with names that are unique in the recipe: `evaluate`, `evaluate_2`, …"""
        names = stage_names(config.registered_name() for config in self.stages)
        return list(zip(names, self.stages, strict=True))

    def launch_for(self, stage: StageConfig) -> LaunchConfig:
        """Return where a stage runs: its own `launch:` block over the recipe's."""
        return self.launch.overlaid(stage.launch)

    def raise_problems(self, problems: Iterable[str]) -> None:
        """Raise one RecipeError with a line for each problem, if there is any."""
        lines = [f"{self.source}: {problem}" for problem in problems]
        if lines:
            raise RecipeError("\n".join(lines))


class ResolvedRecipe(Recipe):
    """A recipe whose linked fields are filled in: what is checked, run, saved and compared.

    `resolving.resolve` makes one.
    """

    _part_configs: dict[Role, PartConfig] = PrivateAttr(default_factory=dict)
    _facts: dict[Role, Any] = PrivateAttr(default_factory=dict)

    @property
    def part_configs(self) -> Mapping[Role, PartConfig]:
        """Role → config of every part, those of a codec checkpoint included."""
        return self._part_configs

    @property
    def facts(self) -> Mapping[Role, Any]:
        """Role → what each part states of itself: `HeadFacts` of the head."""
        return self._facts

    def codec_facts(self) -> CodecFacts:
        """Return the facts of the codec. Raises: RecipeError when the recipe has none."""
        absent = [role for role in CODEC_ROLES if role not in self.facts]
        if absent:
            raise RecipeError(
                f"{self.source}: the recipe has no {' and no '.join(absent)}. "
                "Add the block or name a trained codec with `codec: {checkpoint: …}`."
            )
        return CodecFacts(**{role: self.facts[role] for role in CODEC_ROLES})

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, which `loading.recipe_from_dict` reads back."""
        document: dict[str, Any] = {"name": self.name, "seed": self.seed}
        if self.codec is not None:
            document["codec"] = _dumped(self.codec)
        for role, config in self.parts().items():
            document[role] = _dumped(config)
        if self.data is not None:
            document["data"] = self.data.to_dict()
        document["stages"] = [_dumped_stage(stage) for stage in self.stages]
        document["launch"] = _dumped(self.launch)
        if self.sweep is not None:
            document["sweep"] = self.sweep.model_dump(mode="json")
        return document

    def identity(self) -> dict[str, Any]:
        """Return what makes two runs the same: all of it but where it runs."""
        return without_launch(self.to_dict())

    def digest(self) -> str:
        """Return 12 hex digits that change whenever `identity()` changes."""
        text = json.dumps(self.identity(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def run_name(self) -> str:
        """Name of the run's folder: the recipe's, and what the run computes."""
        return f"{self.name}-{self.digest()}"


def stage_names(runs: Iterable[str]) -> list[str]:
    """Return names for stages that are unique in a recipe, from what each runs."""
    count: Counter[str] = Counter()
    names = []
    for run in runs:
        count[run] += 1
        names.append(run if count[run] == 1 else f"{run}_{count[run]}")
    return names


def _dumped(config: Config) -> dict[str, Any]:
    """Return JSON values, with what the block is in front."""
    values = config.model_dump(mode="json")
    return {key: values[key] for key in sorted(values, key=lambda key: key != config.tag)}


def _dumped_stage(stage: StageConfig) -> dict[str, Any]:
    """Return JSON values, without those of options that are left out."""
    return {
        key: value
        for key, value in _dumped(stage).items()
        if key not in stage.absent_if_unset or value is not None
    }


def without_launch(document: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe's document without everything that says where it runs. Nothing is changed."""
    document = {key: value for key, value in document.items() if key != "launch"}
    if isinstance(document.get("stages"), list):
        document["stages"] = [
            {key: value for key, value in stage.items() if key != "launch"}
            if isinstance(stage, dict)
            else stage
            for stage in document["stages"]
        ]
    return document
